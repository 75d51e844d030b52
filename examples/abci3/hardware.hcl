# HPE Cray XD670.
hardware "xd670" {
  units = 5
  power = "10.2kW" # assumed: what a DGX H200, with the same eight GPUs, is rated at
  cpu {
    sockets = 2
    cores   = 96 # 2 x Xeon Platinum 8558
  }
  memory {
    total = "2TiB" # 32 x 64 GB of DDR5
    dimms = 32
  }
  gpu {
    model   = "NVIDIA H200"
    pci_id  = "10de:2335"
    count   = 8
    memory  = "141GB"
    nvlinks = 18
  }
  disk "local" {
    count     = 2
    size      = "7.68TB"
    transport = "nvme"
  }

  # Compute: mlx5_ibn1 to mlx5_ibn8.
  dynamic "hca" {
    for_each = range(1, 9)
    labels   = ["ibn${hca.value}"]
    content {
      device   = "mlx5_ibn${hca.value}"
      rail     = hca.value
      rate     = "NDR200"
      near_gpu = hca.value - 1 # assumed: adapter n beside GPU n-1
    }
  }
  # Storage, on no rail.
  hca "ibs1" { # assumed: the name
    rate = "HDR200"
  }
}
