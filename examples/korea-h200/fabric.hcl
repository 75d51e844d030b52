# Assumed: racks of four, eight units of 32 nodes less one, two tiers.
rack "gpu" {
  for_each     = hostlist("g[01-64]")
  height       = 48
  power_budget = "45kW"
}

fabric "compute" {
  link_layer = "infiniband"
  rate       = "NDR"

  topology "rail_optimized" {
    leaf {
      model = switch_model.qm9700
    }
    spine {
      model = switch_model.qm9700
    }
  }
}
