# KISTI-6, national supercomputer no. 6 of Korea: 8,496 GPUs. What is not published is marked "assumed"; see README.md.
cluster "kisti6" {
  domain = "kisti6.example"
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
  cidr = "10.20.0.0/20"
}

network "provision" {
  cidr      = "10.10.0.0/20"
  gateway   = "10.10.0.1"
  dhcp      = "full"
  interface = "eth1"
  address   = "10.10.0.2"
}

image "compute" {
  source = "./images/compute"
}

acceptance "gpu" {
  node {
    gemm      = "60s"
    hbm_sweep = true
  }
  rack {
    soak = "24h"
  }
  fabric {
    pairwise      = true
    min_bandwidth = "360Gb/s" # nine tenths of the rate
  }
}
