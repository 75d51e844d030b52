cluster "test" {}

credential "bmc" {
  username = "admin"
  password = "not-a-secret-of-anyone"
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
  source = "./image"
}

hardware "h200x8" {
  hca "ibn1" {
    rail = 1
  }
}

rack "a01" {}
