//! Credentials of pods: the kubelet's image service, by way of the snapshotter.

use std::fs;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use rustix::mount::{UnmountFlags, unmount};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use tonic::Code;
use tonic::codegen::http::uri::PathAndQuery;

use crate::containerd::Containerd;
use crate::kubelet::{Kubelet, pause, secret};
use crate::plugin::{Plugin, START, block_on, channel, image, log_of, need_root_and_fuse};
use crate::proto::cri::{ListImagesRequest, ListImagesResponse};
use crate::shell::{Home, eventually, eventually_within, run, text};
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

/// A service manager's side: what it is told, and files that come with that.
struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Manager {
    fn new(home: &Home) -> Manager {
        let path = home.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(START)).unwrap();
        Manager { socket, path }
    }

    fn told(&self) -> (String, Option<fs::File>) {
        let (mut bytes, mut space) =
            ([0; 256], [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))]);
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let buffers = &mut [IoSliceMut::new(&mut bytes)];
        let flags = RecvFlags::CMSG_CLOEXEC;
        let received = recvmsg(&self.socket, buffers, &mut control, flags).unwrap();
        let files = control.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(files) => Some(files),
            _ => None,
        });
        let file = files.flatten().next().map(fs::File::from);
        (String::from_utf8(bytes[..received.bytes].to_vec()).unwrap(), file)
    }
}

/// Whether any process of a home but the snapshotter holds the file with the secrets.
fn is_shared(home: &Home) -> bool {
    let processes = [home.serving(), home.workers()].concat();
    assert!(!processes.is_empty());
    processes.iter().any(|pid| {
        let open = fs::read_dir(format!("/proc/{}/fd", pid.as_raw_nonzero())).unwrap().flatten();
        open.filter_map(|entry| fs::read_link(entry.path()).ok())
            .any(|target| text(&target).contains("credentials"))
    })
}

/// The next process of a service has them, whichever way the last one has ended.
#[test]
fn secrets_outlive_a_restart_where_a_manager_keeps_them() {
    need_root_and_fuse();
    let (home, pauses, registry) = (Home::new(), Registry::start(), Registry::start());
    let image = image("kept");
    registry.add_image("app", "1", &image);
    registry.require_basic("pod", PASSWORDS[0]);
    pauses.add_image("pause", "1", &pause());
    let manager = Manager::new(&home);
    let (socket, to) = (home.path().join("i.sock"), home.path().join("c.sock"));
    let flags = ["--image-service", text(&socket), "--containerd", text(&to)];
    let start = |kept| Plugin::start_as_service(&home, &flags, &manager.path, kept);
    let mut plugin = start(None);
    let (told, kept) = manager.told();
    assert_eq!(told, "FDSTORE=1\nFDNAME=credentials-1");
    let kept = kept.expect("a file to keep");
    assert_eq!(manager.told().0, "READY=1");
    let mut containerd = Containerd::start_with(&home, &pauses, &[&registry]);
    let name = format!("{}/app:1", registry.addr());
    block_on(async {
        let mut kubelet = Kubelet::with_images_at(&containerd, &socket).await;
        kubelet.try_pull(&name, Some(secret("pod", PASSWORDS[0]))).await.unwrap();
        assert!(!is_shared(&home));
        plugin.kill();
        // As if the trees had never been mounted, and nothing of them read.
        let nothing_left = |home: &Home| {
            for place in home.mounts() {
                unmount(&place, UnmountFlags::DETACH).unwrap();
            }
            home.is_quiet();
            for folder in ["spans", "streams"] {
                let _ = fs::remove_dir_all(home.path().join("cache/v1").join(folder));
            }
        };
        nothing_left(&home);
        registry.clear_log();
        plugin = start(Some(&kept));
        assert_eq!(manager.told().0, "READY=1", "it is not kept twice");
        // containerd tries again after a while of its own.
        let list = ["--namespace", "k8s.io", "snapshots", "--snapshotter", "ocifs", "list"];
        assert!(
            eventually_within(START, || containerd.ctr(&list).code == 0),
            "{}",
            containerd.log()
        );
        let mut kubelet = Kubelet::with_images_at(&containerd, &socket).await;
        let sandbox = kubelet.run_sandbox("first").await;
        let container = kubelet.run("first", &sandbox, &name).await;
        let read = ["/bin/tool", "cat", "/d/layer"];
        assert_eq!(kubelet.exec(&container, &read).await, "second of kept");
        assert!(layers_sent(&registry, &image) > 0, "it has been fetched with them");
        assert!(!is_shared(&home));
        is_hidden(&home);
        kubelet.remove(&container).await;
        kubelet.remove_sandbox(&sandbox).await;
    });
    containerd.stop();
    plugin.stop();
    assert_eq!(manager.told().0, "STOPPING=1");
}

/// A login for all images would be offered to whatever registry a pod names.
#[test]
fn logins_for_one_registry_are_refused() {
    let home = Home::new();
    let snapshotter = || {
        let mut command = home.command(env!("CARGO_BIN_EXE_ocifs-snapshotter"));
        command.arg("--root").arg(home.path().join("r")).arg("--socket").arg(home.path().join("s"));
        command
    };
    for (flag, named) in [
        ("--creds=me:s3cret", "--creds"),
        ("--plain-http", "--plain-http"),
        ("--tls-verify=false", "--tls-verify"),
    ] {
        let outcome = run(snapshotter().args(["--", flag]));
        assert_eq!(outcome.code, 1, "{outcome:?}");
        let told = format!("{named} is for one registry");
        assert!(
            outcome.stderr.contains(&told) && !outcome.stderr.contains("s3cret"),
            "{outcome:?}"
        );
    }
    let outcome = run(snapshotter().args(["--", "--creds", "me:s3cret"]));
    assert!(outcome.stderr.contains("--creds is for one registry"), "{outcome:?}");
    let outcome = run(snapshotter().env("OCIFS_CREDS", "me:s3cret"));
    assert!(outcome.stderr.contains("OCIFS_CREDS is for one registry"), "{outcome:?}");
}

/// Root without CAP_SYS_PTRACE, as in a container, does not look into a process with secrets of pods.
#[test]
fn what_it_holds_is_not_dumped() {
    need_root_and_fuse();
    const CONTAINED: [&str; 3] = ["setpriv", "--bounding-set=-sys_ptrace", "--inh-caps=-all"];
    let home = Home::new().with_prefix(&CONTAINED);
    let mut plugin = Plugin::start(&home);
    let look = |pid: u32| run(home.command("readlink").arg("-v").arg(format!("/proc/{pid}/exe")));
    let outcome = look(plugin.id());
    assert!(outcome.stderr.contains("Permission denied"), "{outcome:?}");
    let mut other = home.command("sleep").arg("60").spawn().unwrap();
    let is_shown = eventually(|| look(other.id()).stdout.contains("sleep"));
    other.kill().unwrap();
    other.wait().unwrap();
    assert!(is_shown, "what is dumpable is shown");
    plugin.stop();
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
