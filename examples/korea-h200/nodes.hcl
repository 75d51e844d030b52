# A row of assets.csv each.
node "gpu" {
  for_each   = { for row in csvdecode(file("assets.csv")) : row.hostname => row }
  rack       = rack[each.value.rack]
  unit       = each.value.unit
  serial     = each.value.serial
  hardware   = hardware.h200x8
  image      = image.compute
  acceptance = acceptance.h200

  bmc {
    address    = each.value.bmc
    protocol   = "ipmi"
    credential = credential.bmc
    redfish {} # asked for what IPMI does not answer, and for firmware, sensors and events
  }
  dynamic "outlet" {
    for_each = setproduct(["left", "right"], range(3))
    content {
      pdu = pdu["${each.value.rack}-${outlet.value[0]}"]
      id  = (each.value.unit - 1) / 8 * 3 + outlet.value[1] + 1
    }
  }
  nic "boot" {
    mac     = each.value.mac
    network = network.provision
    address = each.value.ip
  }
}
