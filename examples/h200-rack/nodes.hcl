rack "a01" {
  height          = 42
  power_budget    = "85kW" # 8 x 10.2 kW = 81.6 kW, and the leaf switches beside them
  power_on_budget = "31kW" # of the nodes that are starting: three at a time
}

# A row of assets.csv each.
node "hnode" {
  for_each   = local.assets
  name       = each.key
  rack       = rack.a01
  unit       = each.value.unit
  serial     = each.value.serial
  hardware   = hardware.h200x8
  image      = image.compute
  acceptance = acceptance.h200

  bmc {
    address    = each.value.bmc
    protocol   = "ipmi"
    credential = credential.bmc
  }
  nic "boot" {
    mac     = each.value.mac
    network = network.provision
    address = each.value.ip
  }
}

fabric "compute" {
  link_layer = "infiniband"
  rate       = "NDR"
  cables     = csvdecode(file("cables.csv"))
}
