// Package images builds what nodes boot, from Debian packages and the
// firstlight agent, and keeps it in a content-addressed catalogue.
//
// An image is a Manifest: a kernel as Debian ships it, an initramfs (newc cpio
// as of Linux Documentation/driver-api/early-userspace/buffer-format.rst,
// zstd-compressed) whose /init is the agent, and, for an image that nodes run,
// a squashfs root file system. Every part is a blob named by its SHA-256, so
// that what a node reports can be compared with what was built.
//
// The same inputs give the same bytes and so the same digests: no time stamps,
// no owners, no umask, no directory order of the building machine gets in.
package images
