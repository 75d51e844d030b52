// Package cuda is the worker that loads one NVIDIA GPU through the CUDA driver
// API and checks every bit of what it computes, keeps and moves. It speaks the
// protocol of package burnin (Order, Event) on its standard input and output,
// in a process of its own for each GPU.
//
// libcuda.so.1, which comes with the driver, is opened when the worker starts:
// neither the machine that builds nor the node needs NVIDIA's toolkit. The
// kernels are ours, in kernels/*.cu; the driver translates their PTX for the
// GPU that it finds.
package cuda
