node "node-1" {
  rack       = rack.lab
  unit       = 1
  serial     = "FL-LAB-0001"
  hardware   = hardware.vm
  image      = image.compute
  acceptance = acceptance.lab

  bmc {
    address    = "10.20.0.11"
    protocol   = "ipmi"
    credential = credential.bmc
  }
  nic "boot" {
    mac     = "52:54:00:10:00:01"
    network = network.provision
    address = "10.10.0.11"
  }
}

node "node-2" {
  rack       = rack.lab
  unit       = 2
  serial     = "FL-LAB-0002"
  hardware   = hardware.vm
  image      = image.compute
  acceptance = acceptance.lab

  bmc {
    address    = "10.20.0.12"
    protocol   = "ipmi"
    credential = credential.bmc
  }
  nic "boot" {
    mac     = "52:54:00:10:00:02"
    network = network.provision
    address = "10.10.0.12"
  }
}
