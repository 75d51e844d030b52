// Package archtest holds the tests that keep the code to the architecture of
// docs/architecture.md: which package may import which, and why; that every
// package says what it is; that the controller needs no C compiler; and what
// may lie at the top level. It has no code of its own.
package archtest
