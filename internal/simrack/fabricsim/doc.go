// Package fabricsim is the InfiniBand fabric that isn't there: switches and
// adapters that answer management datagrams as real ones do (IBTA volume 1,
// release 1.7, chapters 14 and 16), on the sockets of the simulator ibsim, so
// that opensm, ibnetdiscover and the rest of infiniband-diags run against it
// through libumad2sim as they are.
//
// A Net is what is there and how it is cabled: declared in an inventory, or
// listed. New makes a Fabric of it, which a Server answers for. What is wrong
// with it is Faults, which are values and can come while it runs.
//
// Beyond ibsim it has NDR and ports split to NDR200, any number of clients, a
// time that every hop takes, receive queues that overflow, packets that are
// lost, counters that grow, and nodes that lie.
package fabricsim
