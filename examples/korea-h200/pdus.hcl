# Assumed: two switched PDUs in each rack, and three of a node's six power supplies on either.
variable "pdu_password" {
  type        = string
  sensitive   = true
  description = "Password of the PDUs' admin user."
}

credential "pdu" {
  username = "admin"
  password = var.pdu_password
}

pdu "rack" {
  for_each = { for i, p in setproduct(hostlist("g[01-64]"), ["left", "right"]) : "${p[0]}-${p[1]}" => {
    rack    = p[0]
    address = cidrhost(network.oob.cidr, 356 + i)
  } }
  address    = each.value.address
  rack       = rack[each.value.rack]
  credential = credential.pdu
}
