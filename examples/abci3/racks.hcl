# Assumed, all of it: 24 rows, each a scalable unit of 32 nodes. Eight racks of four
# nodes, four on either side of the rack with the unit's switches, which keeps
# the cables of a unit within its row.
locals {
  rows = [for n in range(1, 25) : format("%02d", n)]
}

rack "compute" {
  for_each = { for n in range(192) : format("c%03d", n + 1) => n }

  power_budget = "45kW"
  row          = local.rows[floor(each.value / 8)]
  position     = each.value % 8 < 4 ? each.value % 8 + 1 : each.value % 8 + 2
}

rack "network" {
  for_each = { for row in local.rows : "n${row}" => row }

  row      = each.value
  position = 5
}
