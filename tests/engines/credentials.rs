//! Credentials of pods: the kubelet's image service, by way of the snapshotter.

use std::fs;
use std::path::{Path, PathBuf};

use tonic::Code;
use tonic::codegen::http::uri::PathAndQuery;

use crate::containerd::Containerd;
use crate::kubelet::{Kubelet, pause, secret};
use crate::plugin::{Plugin, block_on, channel, image, log_of, need_root_and_fuse};
use crate::proto::cri::{ListImagesRequest, ListImagesResponse};
use crate::shell::{Home, eventually, text};
use crate::support::image::Built;
use crate::support::registry::Registry;

const PASSWORDS: [&str; 2] = ["s3cret-of-the-first", "s3cret-of-the-second"];

/// Files below a folder, without those of mounts.
fn files(folder: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && !path.ends_with("trees") => files(&path, out),
            Ok(kind) if kind.is_file() => out.push(path),
            _ => {}
        }
    }
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// No file, command line or environment has the passwords, in whatever form they were given.
fn is_hidden(home: &Home) {
    let encoded = PASSWORDS.map(|password| {
        base64::Engine::encode(
            &base64::engine::general_purpose::STANDARD,
            format!("pod:{password}"),
        )
    });
    let secrets: Vec<&str> =
        PASSWORDS.into_iter().chain(encoded.iter().map(String::as_str)).collect();
    let mut paths = Vec::new();
    files(&home.path(), &mut paths);
    assert!(paths.len() > 20, "{paths:?}");
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let is_process = entry.file_name().to_str().is_some_and(|pid| pid.parse::<u32>().is_ok());
        let words = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if is_process && contains(&words, text(&home.path())) {
            paths.extend(["cmdline", "environ"].map(|file| entry.path().join(file)));
        }
    }
    for path in paths {
        let bytes = fs::read(&path).unwrap_or_default();
        for secret in &secrets {
            assert!(!contains(&bytes, secret), "{}", path.display());
        }
    }
}

#[test]
fn images_are_shown_with_the_secrets_of_pods() {
    need_root_and_fuse();
    let (home, pauses) = (Home::new(), Registry::start());
    let registries = [Registry::start(), Registry::start()];
    let images = ["first", "second"].map(image);
    for ((registry, image), password) in registries.iter().zip(&images).zip(PASSWORDS) {
        registry.add_image("app", "1", image);
        registry.require_basic("pod", password);
    }
    pauses.add_image("pause", "1", &pause());
    let (socket, to) = (home.path().join("i.sock"), home.path().join("c.sock"));
    let flags = ["--image-service", text(&socket), "--containerd", text(&to)];
    let mut plugin = Plugin::start_with(&home, &flags);
    let mut containerd = Containerd::start_with(&home, &pauses, &[&registries[0], &registries[1]]);
    let names = registries.each_ref().map(|registry| format!("{}/app:1", registry.addr()));
    let secrets = PASSWORDS.map(|password| secret("pod", password));
    block_on(async {
        let mut kubelet = Kubelet::with_images_at(&containerd, &socket).await;
        for wrong in [None, Some(secrets[1].clone())] {
            kubelet.try_pull(&names[0], wrong).await.unwrap_err();
        }
        kubelet.try_pull(&names[0], Some(secrets[0].clone())).await.unwrap();
        // `ocifs` has streamed each layer for its index, and containerd has fetched none.
        assert_eq!(layers_sent(&registries[0], &images[0]), 2, "{}", log_of(&home));
        let sandbox = kubelet.run_sandbox("first").await;
        let container = kubelet.run("first", &sandbox, &names[0]).await;
        let read = |path| ["/bin/tool", "cat", path];
        assert_eq!(kubelet.exec(&container, &read("/d/layer")).await, "second of first");

        // Another image has another secret.
        for wrong in [None, Some(secrets[0].clone())] {
            kubelet.try_pull(&names[1], wrong).await.unwrap_err();
        }
        assert_eq!(layers_sent(&registries[1], &images[1]), 0);
        kubelet.try_pull(&names[1], Some(secrets[1].clone())).await.unwrap();
        let other_sandbox = kubelet.run_sandbox("second").await;
        let second = kubelet.run("second", &other_sandbox, &names[1]).await;
        assert_eq!(kubelet.exec(&second, &read("/d/layer")).await, "second of second");
        assert!(!log_of(&home).contains("containerd fetches and unpacks"), "{}", log_of(&home));

        // What is not in the cache is fetched with it, also by a worker that takes the place of another.
        registries[0].clear_log();
        let workers = home.workers();
        for worker in &workers {
            rustix::process::kill_process(*worker, rustix::process::Signal::KILL).unwrap();
        }
        let are_others = || home.workers().len() == workers.len();
        assert!(eventually(are_others), "{}", log_of(&home));
        empty_cache(&home);
        assert!(kubelet.exec(&container, &read("/d/more")).await.starts_with("0\n1\n"));
        assert!(layers_sent(&registries[0], &images[0]) > 0);
        is_hidden(&home);

        for (container, sandbox) in [(&container, &sandbox), (&second, &other_sandbox)] {
            kubelet.remove(container).await;
            kubelet.remove_sandbox(sandbox).await;
        }
    });
    is_hidden(&home);
    containerd.stop();
    plugin.stop();
}

/// How often a layer, or a part of one, was sent.
fn layers_sent(registry: &Registry, image: &Built) -> usize {
    let layers = image.layer_digests();
    let is_layer = |path: &str| layers.iter().any(|layer| path.contains(layer.as_str()));
    let requests = registry.requests();
    let sent = requests.iter().filter(|logged| is_layer(&logged.path) && logged.method == "GET");
    sent.filter(|logged| matches!(logged.status, 200 | 206)).count()
}

fn empty_cache(home: &Home) {
    let mut spans = Vec::new();
    files(&home.path().join("cache"), &mut spans);
    spans.retain(|path| path.components().any(|part| part.as_os_str() == "spans"));
    assert!(!spans.is_empty());
    for span in spans {
        fs::remove_file(span).unwrap();
    }
}

/// Everything else of the image service is as containerd answers it, in both versions, and nothing else is answered.
#[test]
fn the_rest_of_the_image_service_is_containerds() {
    need_root_and_fuse();
    let (home, registry, image) = (Home::new(), Registry::start(), image("rest"));
    registry.add_image("app", "1", &image);
    let (socket, to) = (home.path().join("i.sock"), home.path().join("c.sock"));
    let flags = ["--image-service", text(&socket), "--containerd", text(&to)];
    let mut plugin = Plugin::start_with(&home, &flags);
    let list = async |socket: &Path, service: &str| {
        let mut client = tonic::client::Grpc::new(channel(socket).await);
        client.ready().await.unwrap();
        let path: PathAndQuery = format!("/{service}/ListImages").parse().unwrap();
        let codec = tonic_prost::ProstCodec::<ListImagesRequest, ListImagesResponse>::default();
        let request = tonic::Request::new(ListImagesRequest {});
        client.unary(request, path, codec).await.map(tonic::Response::into_inner)
    };
    block_on(async {
        // containerd does not run yet.
        let refused = list(&socket, "runtime.v1.ImageService").await.unwrap_err();
        assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
    });
    let mut containerd = Containerd::start(&home, &registry);
    block_on(async {
        let mut kubelet = Kubelet::with_images_at(&containerd, &socket).await;
        let name = format!("{}/app:1", registry.addr());
        kubelet.pull(&name).await;
        for service in ["runtime.v1.ImageService", "runtime.v1alpha2.ImageService"] {
            let answers = [list(&socket, service).await, list(&to, service).await];
            let [ours, theirs] = answers.map(|answer| answer.unwrap());
            assert!(ours == theirs && ours.images.len() == 1, "{ours:?} {theirs:?}");
            assert_eq!(ours.images[0].repo_tags, std::slice::from_ref(&name));
        }
        kubelet.remove_image(&name).await;
        for service in ["runtime.v1.RuntimeService", "containerd.services.images.v1.Images"] {
            let refused = list(&socket, service).await.unwrap_err();
            assert_eq!(refused.code(), Code::Unimplemented, "{refused:?}");
        }
    });
    containerd.stop();
    plugin.stop();
}
