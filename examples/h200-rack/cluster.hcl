# One rack of eight 5U nodes with eight H200 GPUs each, an InfiniBand leaf per rail.
# Names, addresses, serials and cables are made up; see README.md.

cluster "h200-rack" {
  domain = "h200.example"
}

controller {
  attempts = 3
  deadlines = {
    enrolled = "20m" # power-on self test of an eight-GPU server takes 5 to 10 minutes and more
  }
}

# export FIRSTLIGHT_VAR_bmc_password=... before `apply`; validate and plan do without.
variable "bmc_password" {
  type        = string
  sensitive   = true
  description = "Password of the BMCs' admin user."
}

locals {
  assets = { for row in csvdecode(file("assets.csv")) : row.hostname => row }
}

credential "bmc" {
  username = "admin"
  password = var.bmc_password
}

network "oob" {
  cidr = "10.20.0.0/22"
}

network "provision" {
  cidr      = "10.10.0.0/22"
  gateway   = "10.10.0.1"
  dhcp      = "full"
  interface = "eth1"
  address   = "10.10.0.2"
}

image "compute" {
  source = "./images/compute"
  method = "netboot"
}

acceptance "h200" {
  node {
    gemm      = "60s"
    hbm_sweep = true
  }
  rack {
    soak = "24h"
  }
  fabric {
    pairwise      = true
    min_bandwidth = "360Gb/s"
  }
}
