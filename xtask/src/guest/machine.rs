//! The emulated machine of one guest, as arguments of qemu.
//!
//! - Only emulation (TCG): `/dev/kvm` may be there and still not run a kernel.
//! - The host's `/` is lent read-only, by 9p.
//! - Three ports: one for orders and their answers (`ci/guest/boot`), the others for the command's standard output and error, which so become qemu's.
//! - Guests that see each other are wired to the first by pairs of sockets that qemu inherits; the first is the hub. (Multicast sockets lose packets,
//!   which soft-RoCE takes badly.)
#![forbid(unsafe_code)]

use crate::guest::image::Image;
use std::net::Ipv4Addr;
use std::os::fd::RawFd;
use std::path::Path;

/// Of a network card of its own that leads nowhere, or of the Ethernet between guests.
pub(crate) enum Network {
    Alone,
    /// The ends of its wires: of the hub one to each other guest, of the others one to the hub.
    Wired {
        wires: Vec<RawFd>,
    },
}

impl Network {
    /// The guest's name for it.
    pub(crate) fn interface(&self) -> &'static str {
        match self {
            Network::Alone => "dummy0",
            Network::Wired { .. } => "eth0",
        }
    }
}

/// One guest's machine.
pub(crate) struct Machine<'a> {
    pub(crate) image: &'a Image,
    pub(crate) name: &'a str,
    pub(crate) address: Ipv4Addr,
    pub(crate) network: Network,
    pub(crate) cpus: u8,
    pub(crate) memory_mib: u32,
    /// Holds the scripts of this run, and takes the console's output.
    pub(crate) folder: &'a Path,
    /// The port for orders; the host has the other end of this socket.
    pub(crate) control: RawFd,
}

/// Where a guest's kernel says things, in its folder.
pub(crate) const CONSOLE: &str = "console";

impl Machine<'_> {
    pub(crate) fn arguments(&self) -> Result<Vec<String>, String> {
        let folder = self
            .folder
            .to_str()
            .filter(|path| !path.contains('"'))
            .ok_or("the target folder's name has a quote, or isn't UTF-8")?;
        let mut arguments = vec!["-nodefaults".to_owned(), "-no-user-config".into(), "-no-reboot".into()];
        let mut add = |option: &str, value: String| arguments.extend([option.to_owned(), value]);
        add("-display", "none".into());
        add("-machine", "pc".into());
        add("-accel", "tcg,thread=multi".into());
        add("-cpu", "max".into());
        add("-smp", self.cpus.to_string());
        add("-m", format!("{}M", self.memory_mib));
        add("-kernel", self.image.kernel.display().to_string());
        add("-initrd", self.image.initramfs.display().to_string());
        let Machine { name, address, network, .. } = self;
        // What the kernel doesn't know it hands to `init`, as variables. A panic ends the guest.
        let variables = format!("run=\"{folder}\" name={name} address={address} interface={}", network.interface());
        add("-append", format!("console=ttyS0 quiet panic=-1 mitigations=off net.ifnames=0 {variables}"));
        add("-serial", format!("file:{}", escaped(&format!("{folder}/{CONSOLE}"))));
        add("-fsdev", "local,id=host,path=/,security_model=none,readonly=on,multidevs=remap".into());
        add("-device", "virtio-9p-pci,fsdev=host,mount_tag=host".into());
        // Without it `getrandom` would wait for an emulated machine to have seen enough.
        add("-device", "virtio-rng-pci".into());
        add("-chardev", format!("socket,id=control,fd={}", self.control));
        add("-chardev", "file,id=stdout,path=/dev/stdout".into());
        add("-chardev", "file,id=stderr,path=/dev/stderr".into());
        add("-device", "virtio-serial-pci".into());
        for port in ["control", "stdout", "stderr"] {
            add("-device", format!("virtserialport,chardev={port},name={port}"));
        }
        if let Network::Wired { wires } = network {
            match wires[..] {
                [wire] => add("-netdev", stream("net", wire)),
                _ => {
                    add("-netdev", "hubport,id=net,hubid=0".into());
                    for (i, wire) in wires.iter().enumerate() {
                        add("-netdev", stream(&format!("wire{i}"), *wire));
                        add("-netdev", format!("hubport,id=port{i},hubid=0,netdev=wire{i}"));
                    }
                }
            }
            let [.., last] = address.octets();
            // The same size of packets as in `boot`. No ROM: nothing boots from it.
            add("-device", format!("virtio-net-pci,netdev=net,mac=52:54:00:00:00:{last:02x},host_mtu=9000,romfile="));
        }
        Ok(arguments)
    }
}

fn stream(id: &str, wire: RawFd) -> String {
    format!("stream,id={id},server=off,addr.type=fd,addr.str={wire}")
}

/// In qemu's options a comma ends a value, unless it is doubled.
fn escaped(value: &str) -> String {
    value.replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(network: Network, folder: &str) -> Result<String, String> {
        let image = Image { kernel: "/t/kernel".into(), initramfs: "/t/initramfs".into() };
        let machine = Machine {
            image: &image,
            name: "b",
            address: Ipv4Addr::new(10, 7, 0, 2),
            network,
            cpus: 2,
            memory_mib: 512,
            folder: Path::new(folder),
            control: 7,
        };
        Ok(machine.arguments()?.join(" "))
    }

    #[test]
    fn a_guest_alone_has_no_network_card() {
        let said = text(Network::Alone, "/t").unwrap();
        assert!(said.contains("-smp 2 -m 512M -kernel /t/kernel -initrd /t/initramfs"), "{said}");
        assert!(said.contains("name=b address=10.7.0.2 interface=dummy0"), "{said}");
        assert!(said.contains("socket,id=control,fd=7") && !said.contains("-netdev"), "{said}");
    }

    #[test]
    fn the_hub_joins_its_wires() {
        let said = text(Network::Wired { wires: vec![5, 6] }, "/t").unwrap();
        for part in
            ["hubport,id=net,hubid=0", "addr.str=5", "addr.str=6", "hubid=0,netdev=wire1", "netdev=net,mac=52:54:00:00:00:02"]
        {
            assert!(said.contains(part), "{part}: {said}");
        }
        let said = text(Network::Wired { wires: vec![5] }, "/t").unwrap();
        assert!(
            said.contains("-netdev stream,id=net,server=off,addr.type=fd,addr.str=5 ") && !said.contains("hubport"),
            "{said}"
        );
    }

    #[test]
    fn folders_may_have_odd_names() {
        let said = text(Network::Alone, "/a, b").unwrap();
        assert!(said.contains("run=\"/a, b\" ") && said.contains("file:/a,, b/console"), "{said}");
        assert!(text(Network::Alone, "/a\"b").is_err());
    }
}
