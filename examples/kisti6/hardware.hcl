# Assumed, of both classes: a 400 Gb/s port for each GPU, as the published rate of
# the network, and its name. They are on no rail: see fabric.hcl.
locals {
  ports = { gh200x4 = range(4), h200x8 = range(8) }
}

# Four GH200 modules.
hardware "gh200x4" {
  cpu {
    sockets = 4
    cores   = 288 # 72 of a Grace
  }
  gpu {
    pci_id = "10de:2342" # assumed: the GH200 of 120 GB; 10de:2348 is the one of 144 GB
    count  = 4
  }
  dynamic "hca" {
    for_each = local.ports.gh200x4
    labels   = ["hsn${hca.value}"]
    content {
      rate     = "400Gb/s"
      near_gpu = hca.value
    }
  }
}

hardware "h200x8" {
  units = 5 # assumed
  gpu {
    model   = "NVIDIA H200"
    pci_id  = "10de:2335"
    count   = 8
    memory  = "141GB"
    nvlinks = 18
  }
  dynamic "hca" {
    for_each = local.ports.h200x8
    labels   = ["hsn${hca.value}"]
    content {
      rate     = "400Gb/s"
      near_gpu = hca.value
    }
  }
}
