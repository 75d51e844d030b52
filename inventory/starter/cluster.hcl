# What the rack should be. Check it with `firstlight validate`, see what would
# be done with `firstlight plan`, and do it with `firstlight apply`.

cluster "CLUSTER-NAME" {
  domain = "cluster.example"
}

# The BMC password is not written down here. Before `apply`:
#   export FIRSTLIGHT_VAR_bmc_password=...
variable "bmc_password" {
  type        = string
  sensitive   = true
  description = "Password of the BMCs' admin user."
}

credential "bmc" {
  username = "admin"
  password = var.bmc_password
}

# The out-of-band network, where the BMCs are.
network "oob" {
  cidr = "10.20.0.0/24"
}

# The network that nodes boot from. firstlight serves DHCP, TFTP and HTTP here,
# and on no other interface.
network "provision" {
  cidr      = "10.10.0.0/24"
  gateway   = "10.10.0.1"
  dhcp      = "full"
  interface = "eth1"      # the controller's interface on this network
  address   = "10.10.0.2" # the controller's own address on it
}

image "compute" {
  source = "./images/compute"
  method = "netboot"
}

# What a healthy node is. What is not declared is not checked.
hardware "compute" {
  cpu {
    sockets = 2
    cores   = 96
  }
  memory {
    total = "2TiB"
    dimms = 32
  }
}

acceptance "standard" {
  node {}
}

rack "a01" {
  height       = 42
  power_budget = "40kW"
}

# One node. For many, take them from a CSV of your assets:
#
#   for_each = { for row in csvdecode(file("assets.csv")) : row.hostname => row }
#   serial   = each.value.serial
node "node001" {
  rack       = rack.a01
  unit       = 1
  serial     = "CHANGE-ME-0001"
  hardware   = hardware.compute
  image      = image.compute
  acceptance = acceptance.standard

  bmc {
    address    = "10.20.0.11"
    protocol   = "ipmi" # ipmi | redfish
    credential = credential.bmc
  }
  nic "boot" {
    mac     = "02:00:00:00:00:01" # printed on the node's pull-out tab
    network = network.provision
    address = "10.10.0.11"
  }
}
