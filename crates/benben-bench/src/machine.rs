//! Where a figure comes from: without it, a speed says nothing.

use serde::Serialize;

/// The machine, and the versions of what is compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Machine {
    /// Name of the processor, as the system gives it.
    pub cpu: String,
    /// Instruction sets that matter to the kernels.
    pub features: Vec<&'static str>,
    /// Hardware threads.
    pub cores: usize,
    /// Threads that were used.
    pub threads: usize,
    /// Version of Benben.
    pub version: &'static str,
    /// Peers and their versions.
    pub peers: Vec<(&'static str, String)>,
}

/// Versions of the peers that cannot be asked at run time; a test holds them against the lock file.
const LINKED: [(&str, &str); 2] = [("constriction", "0.5.0"), ("pco", "1.1.0")];

impl Machine {
    /// This machine, of which `threads` threads are used.
    pub fn here(threads: usize) -> Self {
        let peers = LINKED.map(|(name, version)| (name, version.to_owned()));
        let zstd = ("zstd", zstd::zstd_safe::version_string().to_owned());
        Self {
            cpu: cpu(),
            features: features(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            threads,
            version: env!("CARGO_PKG_VERSION"),
            peers: peers.into_iter().chain([zstd]).collect(),
        }
    }
}

/// Linux names the processor in a file; elsewhere the architecture has to do.
fn cpu() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find_map(|l| l.strip_prefix("model name")?.split_once(':'));
    name.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.trim().to_owned())
}

#[cfg(target_arch = "x86_64")]
fn features() -> Vec<&'static str> {
    let known = [
        ("avx2", is_x86_feature_detected!("avx2")),
        ("bmi2", is_x86_feature_detected!("bmi2")),
        ("avx512f", is_x86_feature_detected!("avx512f")),
        ("avx512bw", is_x86_feature_detected!("avx512bw")),
        ("avx512vl", is_x86_feature_detected!("avx512vl")),
        ("avx512vbmi", is_x86_feature_detected!("avx512vbmi")),
    ];
    known.into_iter().filter(|f| f.1).map(|f| f.0).collect()
}

#[cfg(not(target_arch = "x86_64"))]
fn features() -> Vec<&'static str> {
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_those_of_the_lock_file() {
        let lock = concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.lock");
        let lock = std::fs::read_to_string(lock).unwrap();
        for (name, version) in LINKED {
            let entry = format!("name = \"{name}\"\nversion = \"{version}\"\n");
            assert!(lock.contains(&entry), "Cargo.lock has another {name} than {version}");
        }
    }

    #[test]
    fn a_machine_has_a_name_and_cores() {
        let here = Machine::here(1);
        assert!(!here.cpu.is_empty() && here.cores >= 1 && here.peers.len() == 3);
    }
}
