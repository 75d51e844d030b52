# What a healthy node of this class is.
hardware "h200x8" {
  power = "10.2kW" # nameplate

  cpu {
    sockets = 2
    cores   = 96 # 2 x 48
  }
  memory {
    total = "2TiB" # 32 x 64 GiB
    dimms = 32
  }
  gpu {
    model   = "NVIDIA H200"
    pci_id  = "10de:2335"
    count   = 8
    memory  = "141GB"
    nvlinks = 18
  }

  # One NDR adapter for each GPU, on its own rail.
  dynamic "hca" {
    for_each = range(8)
    labels   = ["ibn${hca.value + 1}"]
    content {
      rail     = hca.value + 1
      rate     = "NDR"
      near_gpu = hca.value
    }
  }
  disk "scratch" {
    count     = 2
    size      = "7.68TB"
    transport = "nvme"
  }
}
