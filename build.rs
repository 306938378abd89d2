//! Rust for the gRPC services of `ocifs-snapshotter` and of the tests with containerd, made from their definitions. Without
//! the feature `snapshotter` it does nothing.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    #[cfg(feature = "snapshotter")]
    services::generate()?;
    Ok(())
}

#[cfg(feature = "snapshotter")]
mod services {
    use std::error::Error;
    use std::path::Path;

    /// What containerd calls, and what is called of it.
    const CONTAINERD: &str = "src/bin/ocifs-snapshotter/proto";

    /// What the kubelet calls, as far as the tests do. It is not part of the package.
    const CRI: &str = "tests/engines/proto";

    pub(super) fn generate() -> Result<(), Box<dyn Error>> {
        let with_clients = cfg!(feature = "engines");
        compile(CONTAINERD, "snapshots.proto", with_clients, true)?;
        compile(CONTAINERD, "content.proto", true, false)?;
        compile(CONTAINERD, "namespaces.proto", true, false)?;
        if with_clients && Path::new(CRI).exists() {
            compile(CRI, "cri.proto", true, false)?;
        }
        Ok(())
    }

    // Cargo reads the line.
    #[allow(clippy::print_stdout)]
    fn compile(folder: &str, file: &str, client: bool, server: bool) -> Result<(), Box<dyn Error>> {
        println!("cargo::rerun-if-changed={folder}");
        let definitions = protox::compile([file], [folder])?;
        let config = tonic_prost_build::configure().build_transport(false);
        config.build_client(client).build_server(server).compile_fds(definitions)?;
        Ok(())
    }
}
