# A server with eight H200 SXM. Assumed: units and power of a DGX H200, and an
# NDR adapter for each GPU.
hardware "h200x8" {
  units = 8
  power = "10.2kW"
  gpu {
    model   = "NVIDIA H200"
    pci_id  = "10de:2335"
    count   = 8
    memory  = "141GB"
    nvlinks = 18
  }

  dynamic "hca" {
    for_each = range(8)
    labels   = ["ib${hca.value}"]
    content {
      rail     = hca.value + 1
      rate     = "NDR"
      near_gpu = hca.value
    }
  }
}
