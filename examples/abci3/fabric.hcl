# Assumed: a non-blocking fat tree of unsplit QM9700, optimised by rail. 24 units
# of 32 nodes give 192 leaves, 192 spines in 6 pods, and 96 cores: 480 switches,
# 18,416 cables. `firstlight fabric cables examples/abci3` lists them.
locals {
  network_racks = [for row in local.rows : rack["n${row}"]]
}

fabric "compute" {
  link_layer = "infiniband"
  rate       = "NDR"

  topology "rail_optimized" {
    unit_nodes = 32

    leaf {
      model    = switch_model.qm9700
      name     = "leaf-%03d"
      racks    = local.network_racks
      unit     = 1
      per_rack = 8
    }
    spine {
      model    = switch_model.qm9700
      name     = "spine-%03d"
      racks    = local.network_racks
      unit     = 11
      per_rack = 8
    }
    core {
      model    = switch_model.qm9700
      name     = "core-%02d"
      racks    = local.network_racks
      unit     = 21
      per_rack = 4
    }
  }
}
