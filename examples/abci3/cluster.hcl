# ABCI 3.0: 766 nodes with eight H200 GPUs each. What is published is in README.md; what is not is marked "assumed".
cluster "abci3" {
  domain = "abci3.example"
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
    min_bandwidth = "180Gb/s" # nine tenths of the rate, as the field asks of NDR with 360 of 400
  }
}
