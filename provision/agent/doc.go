// Package agent is what runs on a node: it says hello to the controller with
// a one-time token, takes jobs, inspects and checks the machine it stands on,
// and posts results, over the HTTP/JSON protocol of package api. Package boot
// makes it PID 1 of an initramfs; a simulated node runs it over a fixture tree.
package agent
