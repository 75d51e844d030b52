# DGX H200. The adapters of the rails are not numbered in the order of the GPUs;
# mlx5_1, 2, 7 and 8 are for storage and the in-band network.
locals {
  rails = [
    { device = "mlx5_0", pci = "18:00.0" },
    { device = "mlx5_3", pci = "40:00.0" },
    { device = "mlx5_4", pci = "4f:00.0" },
    { device = "mlx5_5", pci = "5e:00.0" },
    { device = "mlx5_6", pci = "9a:00.0" },
    { device = "mlx5_9", pci = "c0:00.0" },
    { device = "mlx5_10", pci = "ce:00.0" },
    { device = "mlx5_11", pci = "dc:00.0" },
  ]
}

hardware "dgx_h200" {
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
    labels   = ["rail${hca.value + 1}"]
    content {
      device   = local.rails[hca.value].device
      pci      = local.rails[hca.value].pci
      rail     = hca.value + 1
      rate     = "NDR"
      near_gpu = hca.value
    }
  }
}
