//! A pull-through cache as what several nodes read from: containerd and `ocifs` follow the same `hosts.toml`.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::containerd::Containerd;
use crate::kubelet::{Kubelet, pause};
use crate::plugin::{Plugin, START, block_on, image, layer_requests, log_of, need_root_and_fuse};
use crate::shell::{Home, eventually_within};
use crate::support::registry::Registry;

/// docker-registry as a pull-through cache.
struct Cache {
    child: Child,
    address: String,
    folder: tempfile::TempDir,
}

impl Cache {
    fn of(upstream: &Registry) -> Cache {
        let folder = tempfile::tempdir().unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let config = folder.path().join("config.yml");
        let text = format!(
            "version: 0.1\n\
             log: {{level: error}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}}}\n\
             http: {{addr: '{address}'}}\n\
             proxy: {{remoteurl: 'http://{}'}}\n",
            folder.path().join("data").display(),
            upstream.addr(),
        );
        fs::write(&config, text).unwrap();
        let log = fs::File::create(folder.path().join("log")).unwrap();
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&config).stdin(Stdio::null()).stdout(log.try_clone().unwrap());
        let child = command.stderr(log).spawn();
        let child = child.expect("`docker-registry` is missing: install docker-registry");
        let cache = Cache { child, address, folder };
        assert!(eventually_within(START, || cache.answers()), "{}", cache.log());
        cache
    }

    fn answers(&self) -> bool {
        let ask = || {
            let mut stream = TcpStream::connect(&self.address)?;
            write!(stream, "GET /v2/ HTTP/1.0\r\nHost: {}\r\n\r\n", self.address)?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).map(|_| answer)
        };
        ask().is_ok_and(|answer: String| answer.contains(" 200 "))
    }

    /// Its own log, with a line for each request.
    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap()
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Leads a node to the cache; the folder with what says so.
fn lead(home: &Home, upstream: &Registry, cache: &Cache) -> PathBuf {
    let hosts = home.path().join("home/.config/containerd/certs.d");
    let folder = hosts.join(upstream.addr().to_string());
    fs::create_dir_all(&folder).unwrap();
    let text = format!(
        "server = \"http://{}\"\n\n[host.\"http://{}\"]\n  capabilities = [\"pull\", \"resolve\"]\n",
        upstream.addr(),
        cache.address,
    );
    fs::write(folder.join("hosts.toml"), text).unwrap();
    hosts
}

fn asks(log: &str, path: &str) -> usize {
    log.lines().filter(|line| line.contains("GET") && line.contains(path)).count()
}

#[test]
fn two_nodes_read_from_a_pull_through_cache() {
    need_root_and_fuse();
    let (upstream, image) = (Registry::start(), image("mirrored"));
    upstream.add_image("app", "1", &image);
    upstream.add_image("pause", "1", &pause());
    let cache = Cache::of(&upstream);
    let name = format!("{}/app:1", upstream.addr());
    let run = |node: &str| {
        let home = Home::new();
        let hosts = lead(&home, &upstream, &cache);
        let mut plugin = Plugin::start(&home);
        let mut containerd = Containerd::start_led_by(&home, &upstream, &hosts);
        block_on(async {
            let mut kubelet = Kubelet::new(&containerd).await;
            kubelet.pull(&name).await;
            let sandbox = kubelet.run_sandbox(node).await;
            let container = kubelet.run(node, &sandbox, &name).await;
            let read = ["/bin/tool", "cat", "/d/layer"];
            assert_eq!(kubelet.exec(&container, &read).await, "second of mirrored");
            kubelet.remove(&container).await;
            kubelet.remove_sandbox(&sandbox).await;
        });
        assert!(!log_of(&home).contains("containerd fetches and unpacks"), "{}", log_of(&home));
        containerd.stop();
        plugin.stop();
    };
    run("first");
    // The cache has each layer from the registry (this version of it asks twice, once to send it and once to keep it), and
    // the node from the cache.
    assert!(layer_requests(&upstream, &image) <= 4, "{}", cache.log());
    let after_first = cache.log();
    for layer in image.layer_digests() {
        assert!(asks(&after_first, &layer) >= 1, "{after_first}");
    }
    // It is told whose images are meant, as containerd tells it.
    let namespace = format!("ns={}", upstream.addr().to_string().replace(':', "%3A"));
    assert!(after_first.contains(&namespace), "{namespace}: {after_first}");
    upstream.clear_log();
    run("second");
    assert_eq!(layer_requests(&upstream, &image), 0, "{}", cache.log());
    for layer in image.layer_digests() {
        assert!(asks(&cache.log(), &layer) > asks(&after_first, &layer), "{}", cache.log());
    }
}
