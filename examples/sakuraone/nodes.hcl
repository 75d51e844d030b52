# A row of assets.csv each.
node "c" {
  for_each   = { for row in csvdecode(file("assets.csv")) : row.hostname => row }
  rack       = rack[each.value.rack]
  unit       = each.value.unit
  serial     = each.value.serial
  hardware   = hardware.h100x8
  image      = image.compute
  acceptance = acceptance.h100

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
