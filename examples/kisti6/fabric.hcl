# Assumed: cabinets of 64 blades with two nodes each, as the maker's densest, whose
# slots are not rack units; and racks of four for the nodes with H200.
rack "cabinet" {
  for_each = hostlist("x[01-17]")
}

rack "h200" {
  for_each = hostlist("h[01-05]")
}

# Slingshot groups its switches as a dragonfly, which is not a topology that
# firstlight lays out, and its cables are not published. With a cable list from
# the maker this becomes: cables = csvdecode(file("cables.csv"))
fabric "slingshot" {
  link_layer = "ethernet"
  rate       = "400Gb/s"
}
