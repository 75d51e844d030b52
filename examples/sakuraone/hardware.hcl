hardware "h100x8" {
  units = 8 # assumed
  gpu {
    model   = "NVIDIA H100"
    pci_id  = "10de:2330" # H100 SXM5 80GB
    count   = 8
    memory  = "80GB"
    nvlinks = 18
  }

  # Assumed: a 400 GbE port for each GPU, and its name.
  dynamic "hca" {
    for_each = range(8)
    labels   = ["roce${hca.value}"]
    content {
      rail     = hca.value + 1
      rate     = "400GbE"
      near_gpu = hca.value
    }
  }
}
