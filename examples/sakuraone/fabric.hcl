# RoCEv2 on switches with 800 GbE ports that run SONiC, optimised by rail.
# Assumed: 64 ports a switch, each used as two of 400 GbE, and two units of 64
# nodes, the second with 36.
rack "gpu" {
  for_each = hostlist("s[01-25]")
}

switch_model "sonic800" {
  ports      = 64
  rate       = "800GbE"
  split      = 2
  split_rate = "400GbE"
  units      = 2
}

fabric "compute" {
  link_layer = "ethernet"
  rate       = "400GbE"

  topology "rail_optimized" {
    unit_nodes = 64

    leaf {
      model = switch_model.sonic800
      split = true
    }
    spine {
      model = switch_model.sonic800
      split = true
    }
  }
}
