// Package provision brings declared nodes to ready: the lifecycle table, the
// pure planner and transition function, the engine that carries recorded steps
// out, and the journal it stands on.
package provision
