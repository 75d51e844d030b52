# NVIDIA's reference: a leaf for each rail of each unit of 32 nodes, 32 ports down
# and 32 up. The last place of the last unit belongs to the fabric manager.
fabric "compute" {
  link_layer = "infiniband"
  rate       = "NDR"

  topology "rail_optimized" {
    unit_nodes = 32
    reserved   = 1

    leaf {
      model    = switch_model.qm9700
      racks    = [rack.l1, rack.l2, rack.l3, rack.l4]
      per_rack = 8
    }
    spine {
      model    = switch_model.qm9700
      racks    = [rack.s1, rack.s2]
      per_rack = 8
    }
    appliance "ufm" {
      ports = 4
      rack  = rack.l4
      unit  = 20
    }
  }
}
