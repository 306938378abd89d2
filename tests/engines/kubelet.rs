//! The kubelet's side of a containerd.

use std::path::Path;
use std::time::{Duration, Instant};

use tonic::Status;
use tonic::transport::Channel;

use crate::containerd::Containerd;
use crate::plugin::{START, channel, tool};
use crate::proto::cri::image_service_client::ImageServiceClient;
use crate::proto::cri::runtime_service_client::RuntimeServiceClient;
use crate::proto::cri::{
    AuthConfig, ContainerConfig, ContainerMetadata, CreateContainerRequest, ExecSyncRequest,
    ImageSpec, LinuxPodSandboxConfig, LinuxSandboxSecurityContext, NamespaceMode, NamespaceOption,
    PodSandboxConfig, PodSandboxMetadata, PullImageRequest, RemoveContainerRequest,
    RemoveImageRequest, RemovePodSandboxRequest, RunPodSandboxRequest, StartContainerRequest,
    StopContainerRequest, StopPodSandboxRequest,
};
use crate::support::image::{Built, Compression, ImageBuilder};
use crate::support::tarball::{Entry, tar};

/// What holds the namespaces of a pod.
pub fn pause() -> Built {
    let entries = ["bin", "proc", "sys", "dev", "etc", "run", "tmp"].map(Entry::dir);
    let entries = [&entries[..], &[Entry::file("bin/tool", tool()).mode(0o755)]].concat();
    let config = serde_json::json!({ "Entrypoint": ["/bin/tool", "sleep"] });
    let builder = ImageBuilder::new().config("config", config);
    builder.layer(&tar(&entries), Compression::Gzip).build()
}

/// What a secret has for a registry.
pub fn secret(user: &str, password: &str) -> AuthConfig {
    let (username, password) = (user.to_owned(), password.to_owned());
    AuthConfig { username, password, ..Default::default() }
}

/// The kubelet's side of a containerd.
pub struct Kubelet {
    runtime: RuntimeServiceClient<Channel>,
    images: ImageServiceClient<Channel>,
}

impl Kubelet {
    pub async fn new(containerd: &Containerd<'_>) -> Kubelet {
        Kubelet::with_images_at(containerd, &containerd.socket()).await
    }

    /// One whose image service is at another socket.
    pub async fn with_images_at(containerd: &Containerd<'_>, images: &Path) -> Kubelet {
        let runtime = RuntimeServiceClient::new(channel(&containerd.socket()).await);
        let images = ImageServiceClient::new(channel(images).await);
        let mut kubelet = Kubelet { runtime, images };
        // It answers other clients earlier than the kubelet.
        let until = Instant::now() + START;
        let none = Some(ImageSpec { image: "none.example/none:1".to_owned() });
        let request = RemoveImageRequest { image: none };
        while let Err(error) = kubelet.images.remove_image(request.clone()).await {
            assert!(Instant::now() < until, "{error}: {}", containerd.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        kubelet
    }

    pub async fn pull(&mut self, image: &str) -> String {
        self.try_pull(image, None).await.unwrap()
    }

    /// A pull with what the secrets of a pod have for the image.
    pub async fn try_pull(
        &mut self,
        image: &str,
        auth: Option<AuthConfig>,
    ) -> Result<String, Status> {
        let image = Some(ImageSpec { image: image.to_owned() });
        let request = PullImageRequest { image, auth, ..Default::default() };
        Ok(self.images.pull_image(request).await?.into_inner().image_ref)
    }

    pub async fn remove_image(&mut self, image: &str) {
        let image = Some(ImageSpec { image: image.to_owned() });
        self.images.remove_image(RemoveImageRequest { image }).await.unwrap();
    }

    pub async fn run_sandbox(&mut self, name: &str) -> String {
        let request = RunPodSandboxRequest { config: Some(sandbox(name)) };
        self.runtime.run_pod_sandbox(request).await.unwrap().into_inner().pod_sandbox_id
    }

    pub async fn remove_sandbox(&mut self, id: &str) {
        let pod_sandbox_id = id.to_owned();
        let stop = StopPodSandboxRequest { pod_sandbox_id: pod_sandbox_id.clone() };
        self.runtime.stop_pod_sandbox(stop).await.unwrap();
        let remove = RemovePodSandboxRequest { pod_sandbox_id };
        self.runtime.remove_pod_sandbox(remove).await.unwrap();
    }

    pub async fn run(&mut self, sandbox_name: &str, sandbox_id: &str, image: &str) -> String {
        let config = ContainerConfig {
            metadata: Some(ContainerMetadata { name: "one".to_owned(), attempt: 0 }),
            image: Some(ImageSpec { image: image.to_owned() }),
            command: vec!["/bin/tool".to_owned(), "sleep".to_owned()],
            ..Default::default()
        };
        let request = CreateContainerRequest {
            pod_sandbox_id: sandbox_id.to_owned(),
            config: Some(config),
            sandbox_config: Some(sandbox(sandbox_name)),
        };
        let created = self.runtime.create_container(request).await.unwrap().into_inner();
        let container_id = created.container_id;
        let start = StartContainerRequest { container_id: container_id.clone() };
        self.runtime.start_container(start).await.unwrap();
        container_id
    }

    pub async fn remove(&mut self, container_id: &str) {
        let container_id = container_id.to_owned();
        let stop = StopContainerRequest { container_id: container_id.clone(), timeout: 0 };
        self.runtime.stop_container(stop).await.unwrap();
        let remove = RemoveContainerRequest { container_id };
        self.runtime.remove_container(remove).await.unwrap();
    }

    pub async fn exec(&mut self, container_id: &str, words: &[&str]) -> String {
        let request = ExecSyncRequest {
            container_id: container_id.to_owned(),
            cmd: words.iter().map(|word| (*word).to_owned()).collect(),
            timeout: 20,
        };
        let said = self.runtime.exec_sync(request).await.unwrap().into_inner();
        assert_eq!(said.exit_code, 0, "{words:?}: {}", String::from_utf8_lossy(&said.stderr));
        String::from_utf8(said.stdout).unwrap()
    }
}

/// A pod in the network of the host, so that no plugin for networks is needed.
fn sandbox(name: &str) -> PodSandboxConfig {
    let host = NamespaceMode::Node.into();
    let namespace_options =
        Some(NamespaceOption { network: host, pid: NamespaceMode::Container.into(), ipc: host });
    let security_context = Some(LinuxSandboxSecurityContext { namespace_options });
    PodSandboxConfig {
        metadata: Some(PodSandboxMetadata {
            name: name.to_owned(),
            uid: format!("uid-{name}"),
            namespace: "default".to_owned(),
            attempt: 0,
        }),
        log_directory: String::new(),
        linux: Some(LinuxPodSandboxConfig { security_context }),
    }
}
