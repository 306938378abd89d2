//! Pods, as the kubelet makes them: containerd pulls by labels.

use std::time::{Duration, Instant};

use crate::containerd::{Containerd, is_empty};
use crate::kubelet::{Kubelet, pause};
use crate::plugin::{
    Plugin, START, block_on, client, image, layer_requests, log_of, need_root_and_fuse,
};
use crate::proto::snapshots::ListSnapshotsRequest;
use crate::shell::{Home, eventually};
use crate::support::registry::Registry;

async fn snapshots(plugin: &Plugin) -> usize {
    let mut client = client(plugin).await;
    let mut rows = client.list(ListSnapshotsRequest::default()).await.unwrap().into_inner();
    let mut count = 0;
    while let Some(message) = rows.message().await.unwrap() {
        count += message.info.len();
    }
    count
}

/// Waits for garbage collection, which comes some time after things are removed.
async fn becomes(plugin: &Plugin, count: usize) {
    let until = Instant::now() + START;
    while snapshots(plugin).await != count {
        assert!(Instant::now() < until, "{} snapshots", snapshots(plugin).await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[test]
fn pods_run_without_a_layer_fetched_by_containerd() {
    need_root_and_fuse();
    let (home, registry, image, pause) = (Home::new(), Registry::start(), image("pod"), pause());
    registry.add_image("app", "1", &image);
    registry.add_image("pause", "1", &pause);
    let mut plugin = Plugin::start(&home);
    let mut containerd = Containerd::start(&home, &registry);
    let name = format!("{}/app:1", registry.addr());
    block_on(async {
        let mut kubelet = Kubelet::new(&containerd).await;
        let read = ["/bin/tool", "cat", "/d/layer"];
        kubelet.pull(&name).await;
        // `ocifs` has streamed each layer for its index, and containerd has fetched none.
        assert_eq!(layer_requests(&registry, &image), 2, "{}", log_of(&home));
        let content = containerd.told(&["--namespace", "k8s.io", "content", "list", "--quiet"]);
        for layer in image.layer_digests() {
            assert!(!content.contains(&layer), "{content}");
        }
        registry.clear_log();
        let sandbox = kubelet.run_sandbox("first").await;
        let container = kubelet.run("first", &sandbox, &name).await;
        assert_eq!(kubelet.exec(&container, &read).await, "second of pod");
        kubelet.exec(&container, &["/bin/tool", "write", "/d/layer", "mine"]).await;
        assert_eq!(kubelet.exec(&container, &read).await, "mine");
        assert_eq!(layer_requests(&registry, &image), 0, "all of it is in the cache");

        // Either side ends in the middle: the container runs on.
        plugin.kill();
        assert_eq!(kubelet.exec(&container, &read).await, "mine");
        plugin = Plugin::start(&home);
        containerd.stop();
        containerd = Containerd::start(&home, &registry);
        kubelet = Kubelet::new(&containerd).await;
        assert_eq!(kubelet.exec(&container, &read).await, "mine");

        // A second pod fetches nothing.
        registry.clear_log();
        kubelet.pull(&name).await;
        let second_sandbox = kubelet.run_sandbox("second").await;
        let second = kubelet.run("second", &second_sandbox, &name).await;
        assert_eq!(kubelet.exec(&second, &read).await, "second of pod");
        assert_eq!(layer_requests(&registry, &image), 0);

        for (container, sandbox) in [(&container, &sandbox), (&second, &second_sandbox)] {
            kubelet.remove(container).await;
            kubelet.remove_sandbox(sandbox).await;
        }
        // Two layers, and that of the sandboxes.
        becomes(&plugin, 3).await;
        kubelet.remove_image(&name).await;
        kubelet.remove_image(&format!("{}/pause:1", registry.addr())).await;
        becomes(&plugin, 0).await;
    });
    assert!(is_empty(&home.path().join("snapshotter/trees")), "{}", containerd.log());
    assert!(eventually(|| home.serving().is_empty()));
    containerd.stop();
    plugin.stop();
}

/// `ocifs` can't open the image, but containerd can.
#[test]
fn what_cannot_be_shown_is_pulled_as_ever() {
    need_root_and_fuse();
    let (home, registry, image, pause) = (Home::new(), Registry::start(), image("mine"), pause());
    registry.add_image("app", "1", &image);
    registry.add_image("pause", "1", &pause);
    let mut plugin = Plugin::start(&home);
    let mut containerd = Containerd::start(&home, &registry);
    let name = format!("{}/app:1", registry.addr());
    home.configure("these are no settings\n");
    block_on(async {
        let mut kubelet = Kubelet::new(&containerd).await;
        kubelet.pull(&name).await;
        assert!(log_of(&home).contains("containerd fetches and unpacks"), "{}", log_of(&home));
        assert_eq!(layer_requests(&registry, &image), 2);
        let sandbox = kubelet.run_sandbox("only").await;
        let container = kubelet.run("only", &sandbox, &name).await;
        assert_eq!(
            kubelet.exec(&container, &["/bin/tool", "cat", "/d/layer"]).await,
            "second of mine"
        );
        kubelet.remove(&container).await;
        kubelet.remove_sandbox(&sandbox).await;
    });
    containerd.stop();
    plugin.stop();
}
