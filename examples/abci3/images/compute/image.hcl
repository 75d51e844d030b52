# A small image that boots from the network: Debian's kernel and busybox.
kernel   = "linux-image-amd64"
packages = ["busybox-static"]
# files  = "root"  # a directory laid over the image's root
