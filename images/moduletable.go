package images

// rootModule is a kernel module that the initramfs must carry, with what it
// depends on.
type rootModule struct {
	name string
	load bool   // no device announces it: the agent loads it by name at start
	need bool   // without it an image cannot boot: a kernel that lacks it is refused
	why  string // what a node could not do without it
}

// rootModules is what goes into every initramfs. A module is here because a
// node of an inventory boots or is inspected through it; dependencies are not
// here, they come from modules.dep. One that the kernel has built in, or does
// not have, is left out, unless need is set.
var rootModules = []rootModule{
	// Boot NIC: without its driver the agent cannot call home.
	{name: "virtio_net", why: "NIC of a lab VM"},
	{name: "e1000", why: "NIC of a VM under VirtualBox or older QEMU"},
	{name: "e1000e", why: "Intel 1G boot NIC; QEMU's default NIC"},
	{name: "igb", why: "Intel I350/I210 1G boot NIC"},
	{name: "igc", why: "Intel I225/I226 2.5G boot NIC"},
	{name: "ixgbe", why: "Intel X520/X540/X550 10G boot NIC"},
	{name: "i40e", why: "Intel X710/XL710 boot NIC"},
	{name: "ice", why: "Intel E810 boot NIC"},
	{name: "bnxt_en", why: "Broadcom NetXtreme-E boot NIC"},
	{name: "tg3", why: "Broadcom NetXtreme 1G boot NIC"},
	{name: "r8169", why: "Realtek 1G/2.5G boot NIC of workstations"},
	{name: "mlx5_core", why: "ConnectX-4 to -8 and BlueField: boot NIC, HCA"},
	{name: "af_packet", load: true, why: "raw sockets of the DHCP client and of LLDP"},

	// RDMA: HCAs are inspected, ports counted, MADs sent.
	{name: "mlx5_ib", why: "RDMA device of a ConnectX"},
	{name: "ib_core", load: true, why: "/sys/class/infiniband"},
	{name: "ib_uverbs", load: true, why: "verbs from user space"},
	{name: "ib_umad", load: true, why: "management datagrams from user space"},
	{name: "rdma_rxe", why: "RDMA device over Ethernet in a lab VM"},

	// Buses and disks: inspection lists what the node holds.
	{name: "virtio_pci", load: true, why: "bus of every virtio device of a lab VM"},
	{name: "virtio_blk", why: "disk of a lab VM"},
	{name: "virtio_scsi", why: "SCSI disk of a lab VM"},
	{name: "virtio_rng", why: "entropy for TLS in a lab VM"},
	{name: "nvme", why: "NVMe disk"},
	{name: "vmd", why: "Intel VMD, which hides NVMe disks behind it"},
	{name: "ahci", why: "SATA disk"},
	{name: "megaraid_sas", why: "Broadcom and Dell PERC RAID controller"},
	{name: "mpt3sas", why: "Broadcom SAS HBA"},
	{name: "smartpqi", why: "Microchip and HPE RAID controller"},
	{name: "sd_mod", load: true, why: "SCSI, SATA and SAS disks as block devices"},

	// BMC seen in-band.
	{name: "ipmi_si", load: true, why: "BMC over KCS, found through ACPI and SMBIOS"},
	{name: "ipmi_ssif", why: "BMC over SMBus"},
	{name: "i2c_i801", why: "SMBus of Intel chipsets, under ipmi_ssif"},
	{name: "ipmi_devintf", load: true, why: "/dev/ipmi0"},

	// Root file system of an image, and its download.
	{name: "squashfs", load: true, need: true, why: "the root file system's format"},
	{name: "loop", load: true, need: true, why: "mounts the downloaded root"},
	{name: "overlay", load: true, need: true, why: "makes the root writable, in memory"},
	{name: "tls", why: "kernel TLS for the agent's downloads"},
	{name: "efivarfs", load: true, why: "EFI variables: boot mode and boot order"},
	{name: "vfat", why: "EFI system partition"},
	{name: "nls_cp437", why: "code page that vfat asks for by name"},
	{name: "nls_ascii", why: "character set that vfat asks for by name"},

	// Asked for through the crypto API by name, so in no modules.dep.
	{name: "crc32_generic", why: "CRC-32 of rdma_rxe"},
	{name: "crc32c_generic", why: "CRC-32C of NVMe over fabrics and file systems"},
}
