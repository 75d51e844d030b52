# Two virtual machines with UEFI firmware, a BMC each, and nothing installed.

cluster "two-node-lab" {
  domain = "lab.example"
}

# Everything here is emulated, so the deadlines leave room for slow hosts.
controller {
  backoff = "2s"
  deadlines = {
    reachable   = "2m"
    enrolled    = "5m"
    matched     = "2m"
    provisioned = "5m"
    validated   = "2m"
    "burned-in" = "2m"
    ready       = "2m"
  }
}

lab "two-node-lab" {
  cpus   = 1
  memory = "1GiB"
}

# The password of a BMC that exists only inside this lab: no secret.
credential "bmc" {
  username = "admin"
  password = "firstlight-lab"
}

network "oob" {
  cidr      = "10.20.0.0/24"
  interface = "oob"
  address   = "10.20.0.1"
}

network "provision" {
  cidr      = "10.10.0.0/24"
  interface = "provision"
  address   = "10.10.0.1"
  dhcp      = "full"
}

image "compute" {
  source = "./images/compute"
  method = "netboot"
}

hardware "vm" {
  cpu {
    sockets = 1
    cores   = 1
  }
  memory {
    total = "1GiB"
    dimms = 1
  }
  disk "root" {
    count     = 1
    size      = "4GiB"
    transport = "nvme"
  }
}

acceptance "lab" {
  node {}
}

rack "lab" {}
