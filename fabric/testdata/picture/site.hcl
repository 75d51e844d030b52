# A fabric of three tiers that fits on a screen: two units of three nodes, two rails.
cluster "small" {}

credential "bmc" {
  username = "admin"
  password = "not-a-secret-of-anyone"
}
network "oob" {
  cidr = "10.20.0.0/24"
}
network "provision" {
  cidr      = "10.10.0.0/24"
  dhcp      = "full"
  interface = "eth1"
  address   = "10.10.0.2"
}
image "compute" {
  source = "./image"
}
hardware "h200x2" {
  hca "ibn1" {
    rail = 1
    rate = "NDR"
  }
  hca "ibn2" {
    rail = 2
    rate = "NDR"
  }
}
rack "a01" {}

node "n" {
  for_each = { for i in range(1, 7) : "n${i}" => i }
  rack     = rack.a01
  unit     = each.value
  hardware = hardware.h200x2
  image    = image.compute
  bmc {
    address    = cidrhost(network.oob.cidr, 10 + each.value)
    protocol   = "ipmi"
    credential = credential.bmc
  }
  nic "boot" {
    mac     = format("02:00:00:00:00:%02x", each.value)
    network = network.provision
    address = cidrhost(network.provision.cidr, 10 + each.value)
  }
}
switch "leaf" {
  for_each = { for i in range(0, 4) : "leaf-${i + 1}" => i }
  model    = switch_model.qm9700
  role     = "leaf"
  rail     = each.value % 2 + 1
  rack     = rack.a01
  unit     = 39 + each.value
}
switch "spine" {
  for_each = { for i in range(0, 4) : "spine-${i + 1}" => i }
  model    = switch_model.qm9700
  role     = "spine"
  rack     = rack.a01
  unit     = 30 + each.value
}
switch "core" {
  for_each = { for i in range(0, 2) : "core-${i + 1}" => i }
  model    = switch_model.qm9700
  role     = "core"
  rack     = rack.a01
  unit     = 20 + each.value
}
fabric "compute" {
  link_layer = "infiniband"
  rate       = "NDR"
  cables     = csvdecode(file("cables.csv"))
}
