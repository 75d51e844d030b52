// Package burnin proves that GPUs compute, remember and carry what they should
// while they work as hard as they can, and says what it could not prove.
//
// A load runs in a child process for each GPU, told what to do and telling what
// it saw as JSON lines (Order, Event). Products are of integers that the number
// format holds exactly, so their results are known bit for bit: one is verified
// on the CPU by Freivalds' check in 64-bit integers (R. Freivalds, Probabilistic
// machines can use less running time, 1977), and every later one is held against
// it by a hash of each tile.
package burnin
