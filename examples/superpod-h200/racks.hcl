# Assumed: four DGX in a rack, a row for each scalable unit, the unit's leaves in
# a rack in the middle of its row, and spines in two more racks.
rack "dgx" {
  for_each = { for n in range(32) : format("d%02d", n + 1) => n }

  height       = 48
  power_budget = "45kW"
  row          = "${floor(each.value / 8) + 1}"
  position     = each.value % 8 < 4 ? each.value % 8 + 1 : each.value % 8 + 2
}

rack "leaves" {
  for_each = { for su in range(1, 5) : "l${su}" => su }

  height   = 48
  row      = each.value
  position = 5
}

rack "spines" {
  for_each = { for n in range(1, 3) : "s${n}" => n }

  height   = 48
  row      = 2
  position = 9 + each.value
}
