# DGX SuperPOD H200, four scalable units: 127 DGX H200 and the fabric manager in the last place.
cluster "superpod" {
  domain = "superpod.example"
}

# export FIRSTLIGHT_VAR_bmc_password=... before `apply`; validate and plan do without.
variable "bmc_password" {
  type        = string
  sensitive   = true
  description = "Password of the BMCs' admin user."
}

credential "bmc" {
  username = "admin"
  password = var.bmc_password
}

network "oob" {
  cidr = "10.20.0.0/24"
}

network "provision" {
  cidr      = "10.10.0.0/24"
  gateway   = "10.10.0.1"
  dhcp      = "full"
  interface = "eth1"
  address   = "10.10.0.2"
}

image "compute" {
  source = "./images/compute"
}

acceptance "dgx" {
  node {
    gemm      = "60s"
    hbm_sweep = true
  }
  rack {
    soak = "24h"
  }
  fabric {
    pairwise      = true
    min_bandwidth = "360Gb/s" # what the field asks of NDR for each rail
  }
}
