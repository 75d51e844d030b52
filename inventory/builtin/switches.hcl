# Switch models that need no declaration: ports and rates as their makers publish
# them. What they draw depends on the cables, so that is for a site to declare.

# NVIDIA Quantum-2: 32 twin-port OSFP cages.
switch_model "qm9700" {
  ports      = 64
  rate       = "NDR"
  split      = 2
  split_rate = "NDR200"
  cage_ports = 2
  units      = 1
}

# NVIDIA Quantum: 40 QSFP56 cages.
switch_model "qm8700" {
  ports      = 40
  rate       = "HDR"
  split      = 2
  split_rate = "HDR100"
  units      = 1
}

# NVIDIA Spectrum-4: 64 OSFP cages, 51.2 Tb/s.
switch_model "sn5600" {
  ports      = 64
  rate       = "800GbE"
  split      = 2
  split_rate = "400GbE"
  units      = 2
}
