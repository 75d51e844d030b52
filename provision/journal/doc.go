// Package journal implements provision.Journal on etcd, and keeps bulk
// evidence beside it in files named by their digest.
//
// By default one etcd member is embedded in whichever process of ours opened
// the state directory first. It listens on a unix socket only, never on TCP,
// and the other processes (status while apply runs) are its clients. When the
// serving process ends, those that remain elect one of themselves through a
// lock file and go on. With Options.Endpoints the same code uses an external
// cluster instead.
//
// Keys, below "firstlight/CLUSTER/":
//
//	events/%016x   the events of one Append, as JSON, under their first serial
//	head           the last serial, %016x
//	lock           the writer's lock, bound to a lease
package journal
