//! Pulls from Debian's docker-registry, and from a fake one that misbehaves.

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use havre_image::manifest::{Descriptor, Manifest, media};
use havre_image::progress::TransferPhase;
use havre_image::{
    Credentials, Digest, ExportFormat, Image, ImageConfig, Layer, Login, PullError, PullFault,
    PullOptions, RequestError,
};

use crate::fake::{Answer, Fake, Request};
use crate::registry::{Guard, Registry};
use crate::support::{Fixture, chain, file, needs, reference, run, tar};
use crate::transfer::{export, sample};

fn peers() -> bool {
    needs("docker-registry") && needs("skopeo")
}

async fn pull(fixture: &Fixture, name: &str, options: PullOptions) -> Result<Image, PullError> {
    fixture.images.pull(&reference(name), &options).await
}

fn login(password: &str) -> PullOptions {
    PullOptions {
        credentials: Credentials::Login(Login {
            user: "u".to_owned(),
            password: password.to_owned(),
        }),
        ..PullOptions::default()
    }
}

/// The same image with its layers packed by zstd, named `zstd`.
fn zstd_image(fixture: &Fixture, image: &Image) {
    let layers: Vec<Layer> = image
        .layers
        .iter()
        .map(|layer| {
            let plain = fixture.images.open_layer(layer).unwrap();
            let packed = zstd::encode_all(plain, 3).unwrap();
            let (digest, size) = fixture
                .images
                .write_blob(&mut packed.as_slice(), None)
                .unwrap();
            Layer {
                digest,
                size,
                media_type: media::LAYER_ZSTD.to_owned(),
                ..layer.clone()
            }
        })
        .collect();
    let config = image.config.clone();
    fixture
        .images
        .commit_image(config, &layers, &reference("zstd"))
        .unwrap();
}

#[tokio::test]
async fn images_of_both_kinds_come_from_a_real_registry() {
    if !peers() {
        return;
    }
    let registry = Registry::start(Guard::None);
    let here = Fixture::new();
    let image = sample(&here, "app:1");
    let archive = export(&here, "app:1", ExportFormat::Oci);
    registry.push(&archive, "oci:1", &["--format", "oci"]);
    zstd_image(&here, &image);
    let packed = here.dir.path().join("zstd.tar");
    let out = fs::File::create(&packed).unwrap();
    here.images
        .export(&reference("zstd"), ExportFormat::Oci, out)
        .unwrap();
    registry.push(&packed, "zstd:1", &["--preserve-digests"]);
    registry.push(&archive, "docker:1", &["--format", "v2s2"]);
    for (name, packed) in [
        ("oci:1", media::LAYER_GZIP),
        ("zstd:1", media::LAYER_ZSTD),
        ("docker:1", media::DOCKER_LAYER_GZIP),
    ] {
        let there = Fixture::new();
        let name = format!("{}/{name}", registry.host);
        let found = pull(&there, &name, PullOptions::default()).await.unwrap();
        assert_eq!(found.config, image.config, "{name}");
        assert_eq!(found.layers[0].diff_id, image.layers[0].diff_id);
        assert_eq!(found.layers[0].media_type, packed);
        assert_eq!(
            there.images.resolve(&reference(&name)).unwrap(),
            Some(found.clone())
        );
        assert_eq!(
            there.listing("layers").len(),
            2,
            "a pulled image is unpacked"
        );
        assert!(there.listing("partial").is_empty());
        let pinned = reference(&name).pinned(found.manifest_digest).to_string();
        assert_eq!(
            pull(&there, &pinned, PullOptions::default()).await.unwrap(),
            found
        );
    }
}

#[tokio::test]
async fn the_image_for_this_machine_is_chosen_from_an_index() {
    if !peers() {
        return;
    }
    let registry = Registry::start(Guard::None);
    let here = Fixture::new();
    let image = sample(&here, "app:1");
    let archive = export(&here, "app:1", ExportFormat::Oci);
    registry.push(&archive, "app:native", &["--preserve-digests"]);
    let index = |architecture: &str| {
        format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[{{"mediaType":"{}","digest":"{}",
               "size":{},"platform":{{"os":"linux","architecture":"{architecture}"}}}}]}}"#,
            media::INDEX,
            media::MANIFEST,
            image.manifest_digest,
            fs::metadata(here.images.blob_path(&image.manifest_digest))
                .unwrap()
                .len(),
        )
    };
    for (tag, architecture) in [
        ("multi", image.config.architecture.as_str()),
        ("foreign", "s390x"),
    ] {
        let url = format!("http://{}/v2/app/manifests/{tag}", registry.host);
        let kind = format!("Content-Type: {}", media::INDEX);
        run(
            "curl",
            &["-sfX", "PUT", "-H", &kind, "-d", &index(architecture), &url],
        );
    }
    let there = Fixture::new();
    let name = format!("{}/app", registry.host);
    let found = pull(&there, &format!("{name}:multi"), PullOptions::default())
        .await
        .unwrap();
    assert_eq!(found.manifest_digest, image.manifest_digest);
    let error = pull(&there, &format!("{name}:foreign"), PullOptions::default())
        .await
        .unwrap_err();
    assert!(
        chain(&error).contains("only for linux/s390x"),
        "{}",
        chain(&error)
    );
}

#[tokio::test]
async fn credentials_open_a_guarded_registry() {
    if !peers() {
        return;
    }
    let registry = Registry::start(Guard::Password);
    let here = Fixture::new();
    let image = sample(&here, "app:1");
    let archive = export(&here, "app:1", ExportFormat::Oci);
    registry.push(&archive, "app:1", &["--dest-creds", "u:p"]);
    let name = format!("{}/app:1", registry.host);
    let there = Fixture::new();
    let refused = |error: PullError| {
        let PullFault::Request(RequestError::Unauthorized { .. }) = &error.source else {
            panic!("{}", chain(&error));
        };
        error.hint().unwrap()
    };
    let hint = refused(
        pull(&there, &name, PullOptions::default())
            .await
            .unwrap_err(),
    );
    assert!(hint.contains("docker login"), "{hint}");
    let hint = refused(pull(&there, &name, login("wrong")).await.unwrap_err());
    assert!(hint.contains("credentials of u are wrong"), "{hint}");
    assert!(there.images.list().unwrap().is_empty());
    let config = there.dir.path().join("config.json");
    let from_file = PullOptions {
        credentials: Credentials::DockerConfig(config.clone()),
        ..PullOptions::default()
    };
    fs::write(&config, r#"{"auths":{},"credsStore":"desktop"}"#).unwrap();
    let hint = refused(pull(&there, &name, from_file.clone()).await.unwrap_err());
    assert!(hint.contains("helper desktop"), "{hint}");
    fs::write(
        &config,
        format!(r#"{{"auths":{{"{}":{{"auth":"dTpw"}}}}}}"#, registry.host),
    )
    .unwrap();
    let found = pull(&there, &name, from_file).await.unwrap();
    assert_eq!(found.config, image.config);
    pull(&Fixture::new(), &name, login("p")).await.unwrap();
}

#[tokio::test]
async fn a_certificate_is_checked() {
    if !peers() {
        return;
    }
    let registry = Registry::start(Guard::Tls);
    let here = Fixture::new();
    let image = sample(&here, "app:1");
    let archive = export(&here, "app:1", ExportFormat::Oci);
    registry.push(&archive, "app:1", &[]);
    let name = format!("{}/app:1", registry.host);
    let trusting = PullOptions {
        certificates: vec![registry.certificate.clone()],
        ..PullOptions::default()
    };
    let there = Fixture::new();
    let found = pull(&there, &name, trusting).await.unwrap();
    assert_eq!(found.config, image.config);
    // Registries on this machine are tried without TLS then, which this one does not speak.
    pull(&Fixture::new(), &name, PullOptions::default())
        .await
        .unwrap_err();
}

#[tokio::test]
async fn what_is_not_there_is_named() {
    if !peers() {
        return;
    }
    let registry = Registry::start(Guard::None);
    let name = format!("{}/nothing:1", registry.host);
    let error = pull(&Fixture::new(), &name, PullOptions::default())
        .await
        .unwrap_err();
    let text = chain(&error);
    assert!(
        text.contains(&name) && text.contains("has no manifests/1"),
        "{text}"
    );
    assert_eq!(error.hint().unwrap(), "check its name and tag");
}

#[tokio::test]
async fn a_registry_that_is_not_there_is_named() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    drop(listener);
    let error = pull(
        &Fixture::new(),
        &format!("{host}/a"),
        PullOptions::default(),
    )
    .await
    .unwrap_err();
    let text = chain(&error);
    assert!(text.contains(&format!("cannot reach {host}")), "{text}");
    assert!(text.to_lowercase().contains("refused"), "{text}");
    let hint = error.hint().unwrap();
    assert!(
        hint.contains(&host) && hint.contains("havre image import"),
        "{hint}"
    );
}

/// An image with one large layer, as a registry serves it.
struct Served {
    layer: Vec<u8>,
    config: Vec<u8>,
    manifest: Vec<u8>,
}

impl Served {
    fn new() -> Self {
        let layer = tar(&[file("a", "hello")]);
        // Bytes after the end of a tar belong to its digest too.
        let layer = [layer, vec![0; 200_000]].concat();
        let mut config = ImageConfig::for_this_machine();
        config.rootfs.diff_ids = vec![Digest::of(&layer)];
        let config = serde_json::to_vec(&config).unwrap();
        let manifest = Manifest {
            schema_version: 2,
            media_type: None,
            config: Descriptor::new(media::CONFIG, Digest::of(&config), config.len() as u64),
            layers: vec![Descriptor::new(
                media::LAYER_TAR,
                Digest::of(&layer),
                layer.len() as u64,
            )],
            annotations: Default::default(),
        };
        let manifest = serde_json::to_vec(&manifest).unwrap();
        Self {
            layer,
            config,
            manifest,
        }
    }

    fn layer_path(&self) -> String {
        format!("/v2/app/blobs/{}", Digest::of(&self.layer))
    }

    /// Everything as it should be, ranges included.
    fn answer(&self, request: &Request) -> Answer {
        if request.path.starts_with("/v2/app/manifests/") {
            return Answer::new(200, self.manifest.clone()).with("content-type", media::MANIFEST);
        }
        let whole = if request.path == self.layer_path() {
            &self.layer
        } else {
            &self.config
        };
        match request.from() {
            0 => Answer::new(200, whole.clone()),
            from => {
                let range = format!("bytes {from}-{}/{}", whole.len() - 1, whole.len());
                Answer::new(206, &whole[from..]).with("content-range", &range)
            }
        }
    }
}

/// A fake registry in which `change` may alter the answers for the layer; `n` counts them.
fn serve(
    change: impl Fn(usize, Answer, &Request) -> Answer + Send + Sync + 'static,
) -> (Fake, Served) {
    let served = Served::new();
    let layer_path = served.layer_path();
    let count = AtomicUsize::new(0);
    let fake = Fake::start(move |request| {
        let answer = served.answer(request);
        if request.path == layer_path {
            change(count.fetch_add(1, Ordering::SeqCst), answer, request)
        } else {
            answer
        }
    });
    (fake, Served::new())
}

fn ranges(fake: &Fake, served: &Served) -> Vec<usize> {
    fake.requests()
        .iter()
        .filter(|request| request.path == served.layer_path())
        .map(Request::from)
        .collect()
}

async fn pull_fake(fake: &Fake) -> (Fixture, Result<Image, PullError>) {
    let fixture = Fixture::new();
    let result = pull(
        &fixture,
        &format!("{}/app", fake.host),
        PullOptions::default(),
    )
    .await;
    (fixture, result)
}

#[tokio::test]
async fn a_cut_download_goes_on_where_it_stopped() {
    let (fake, served) = serve(|n, answer, _| if n == 0 { answer.cut(100_000) } else { answer });
    let phases = Arc::new(Mutex::new(Vec::new()));
    let seen = phases.clone();
    let options = PullOptions {
        progress: Arc::new(move |progress| seen.lock().unwrap().push(progress.phase)),
        ..PullOptions::default()
    };
    let fixture = Fixture::new();
    pull(&fixture, &format!("{}/app", fake.host), options)
        .await
        .unwrap();
    assert_eq!(ranges(&fake, &served), [0, 100_000]);
    assert!(phases.lock().unwrap().contains(&TransferPhase::Retrying));
}

#[tokio::test]
async fn a_download_goes_on_after_a_restart() {
    let (fake, served) = serve(|_, answer, _| answer);
    let fixture = Fixture::new();
    let partial = fixture
        .path("partial")
        .join(Digest::of(&served.layer).hex());
    fs::write(&partial, &served.layer[..150_000]).unwrap();
    let fixture = fixture.reopen();
    let name = format!("{}/app", fake.host);
    pull(&fixture, &name, PullOptions::default()).await.unwrap();
    assert_eq!(ranges(&fake, &served), [150_000]);
    // All is there: only the manifest is asked for again.
    let before = fake.paths().len();
    pull(&fixture, &name, PullOptions::default()).await.unwrap();
    assert_eq!(fake.paths()[before..], ["/v2/app/manifests/latest"]);
}

#[tokio::test]
async fn a_damaged_rest_of_an_earlier_download_is_fetched_anew() {
    let (fake, served) = serve(|_, answer, _| answer);
    let fixture = Fixture::new();
    let partial = fixture
        .path("partial")
        .join(Digest::of(&served.layer).hex());
    fs::write(&partial, vec![9; 150_000]).unwrap();
    pull(
        &fixture,
        &format!("{}/app", fake.host),
        PullOptions::default(),
    )
    .await
    .unwrap();
    assert_eq!(ranges(&fake, &served), [150_000, 0]);
}

#[tokio::test]
async fn a_registry_without_ranges_sends_everything_again() {
    let (fake, served) = serve(|n, answer, request| {
        let whole = Served::new().layer;
        match n {
            0 => answer.cut(100_000),
            _ => {
                assert_eq!(request.from(), 100_000);
                Answer::new(200, whole)
            }
        }
    });
    let (_fixture, result) = pull_fake(&fake).await;
    result.unwrap();
    assert_eq!(ranges(&fake, &served), [0, 100_000]);
}

#[tokio::test]
async fn a_busy_registry_is_asked_again() {
    let (fake, served) = serve(|n, answer, _| match n {
        0 => Answer::new(503, "").with("retry-after", "1"),
        1 => Answer::new(429, ""),
        _ => answer,
    });
    let (_fixture, result) = pull_fake(&fake).await;
    result.unwrap();
    assert_eq!(ranges(&fake, &served).len(), 3);
}

#[tokio::test]
async fn other_bytes_than_asked_for_are_not_kept() {
    let (fake, served) = serve(|_, mut answer, _| {
        answer.body[1000] ^= 1;
        answer
    });
    let (fixture, result) = pull_fake(&fake).await;
    let error = result.unwrap_err();
    assert!(
        matches!(error.source, PullFault::Digest { .. }),
        "{}",
        chain(&error)
    );
    assert_eq!(
        ranges(&fake, &served),
        [0, 0],
        "once more, in case the line was at fault"
    );
    assert!(fixture.listing("partial").is_empty());
    assert!(fixture.images.list().unwrap().is_empty());
}

#[tokio::test]
async fn a_blob_without_end_is_cut_off() {
    let (fake, _) = serve(|_, answer, _| Answer::new(200, [answer.body, vec![1; 5000]].concat()));
    let (_fixture, result) = pull_fake(&fake).await;
    let error = result.unwrap_err();
    assert!(
        matches!(error.source, PullFault::TooLong { .. }),
        "{}",
        chain(&error)
    );
}

#[tokio::test]
async fn a_line_that_always_breaks_ends_in_an_error() {
    let (fake, served) = serve(|_, answer, _| answer.cut(0));
    let (_fixture, result) = pull_fake(&fake).await;
    let error = result.unwrap_err();
    assert!(chain(&error).contains("broke"), "{}", chain(&error));
    assert_eq!(ranges(&fake, &served).len(), 4);
}

#[tokio::test]
async fn credentials_stay_with_the_registry() {
    let served = Served::new();
    let blobs = Fake::start(move |request| served.answer(request));
    let served = Served::new();
    let target = blobs.host.clone();
    let registry = Fake::start(move |request| {
        if request.header("authorization") != Some("Basic dTpw") {
            return Answer::new(401, "").with("www-authenticate", "Basic realm=\"r\"");
        }
        if request.path.contains("/blobs/") {
            let target = format!("http://{target}{}", request.path);
            return Answer::new(307, "").with("location", &target);
        }
        served.answer(request)
    });
    let name = format!("{}/app", registry.host);
    pull(&Fixture::new(), &name, login("p")).await.unwrap();
    assert_eq!(blobs.requests().len(), 2);
    assert!(
        blobs
            .requests()
            .iter()
            .all(|request| request.header("authorization").is_none())
    );
}

/// A registry that wants the token `t0k` of the service at `realm`, or of itself.
fn with_tokens(realm: Option<String>) -> Fake {
    let served = Served::new();
    Fake::start(move |request| {
        if request.path.starts_with("/token?") {
            assert_eq!(request.header("authorization"), Some("Basic dTpw"));
            return Answer::new(200, r#"{"access_token":"t0k"}"#);
        }
        if request.header("authorization") == Some("Bearer t0k") {
            return served.answer(request);
        }
        let host = request.header("host").unwrap_or_default();
        let realm = realm.clone().unwrap_or(format!("http://{host}"));
        let challenge =
            format!("Bearer realm=\"{realm}/token\",service=\"s\",scope=\"repository:app:pull\"");
        Answer::new(401, "").with("www-authenticate", &challenge)
    })
}

#[tokio::test]
async fn a_token_is_fetched_once_where_the_registry_says() {
    let registry = with_tokens(None);
    let name = format!("{}/app", registry.host);
    pull(&Fixture::new(), &name, login("p")).await.unwrap();
    let tokens: Vec<String> = registry
        .paths()
        .into_iter()
        .filter(|path| path.starts_with("/token"))
        .collect();
    assert_eq!(tokens, ["/token?service=s&scope=repository%3Aapp%3Apull"]);
}

/// Asks a stranger for a token; what the stranger saw and what became of the pull.
async fn pull_by_stranger(
    answer: impl Fn() -> Answer + Send + Sync + 'static,
) -> (Vec<Option<String>>, Result<Image, PullError>) {
    let stranger = Fake::start(move |_| answer());
    let registry = with_tokens(Some(format!("http://{}", stranger.host)));
    let name = format!("{}/app", registry.host);
    let result = pull(&Fixture::new(), &name, login("p")).await;
    let seen = stranger.requests();
    let seen = seen
        .iter()
        .map(|request| request.header("authorization").map(str::to_owned));
    (seen.collect(), result)
}

#[tokio::test]
async fn a_login_is_not_sent_to_whom_the_registry_names() {
    // What everybody may have needs no login.
    let (seen, result) = pull_by_stranger(|| Answer::new(200, r#"{"token":"t0k"}"#)).await;
    result.unwrap();
    assert_eq!(seen, [None]);
    // Where one is needed the error says why it was not sent.
    for answer in [
        Answer::new(401, ""),
        Answer::new(200, r#"{"token":"other"}"#),
    ] {
        let (seen, result) = pull_by_stranger(move || answer.clone()).await;
        assert!(seen.iter().all(Option::is_none), "{seen:?}");
        let error = result.unwrap_err();
        let hint = error.hint().unwrap();
        assert!(
            hint.starts_with("the login of u was not sent: 127.0.0.1:"),
            "{hint}"
        );
    }
}

#[tokio::test]
async fn a_realm_with_a_user_in_it_is_refused() {
    let registry = with_tokens(Some("http://registry@127.0.0.1:1".to_owned()));
    let name = format!("{}/app", registry.host);
    let error = pull(&Fixture::new(), &name, login("p")).await.unwrap_err();
    assert!(
        chain(&error).contains("a URL with a user in it"),
        "{}",
        chain(&error)
    );
}

#[tokio::test]
async fn redirects_without_end_are_not_followed() {
    let registry = Fake::start(|request| Answer::new(307, "").with("location", &request.path));
    let (_fixture, result) = pull_fake(&registry).await;
    let error = result.unwrap_err();
    assert!(chain(&error).contains("redirects"), "{}", chain(&error));
}

#[tokio::test]
async fn a_manifest_of_another_kind_or_size_is_refused() {
    for (kind, body, expected) in [
        (
            "application/vnd.docker.distribution.manifest.v1+prettyjws",
            b"{}".to_vec(),
            "not supported",
        ),
        (media::MANIFEST, b"{}".to_vec(), "not valid"),
        (
            media::MANIFEST,
            vec![b' '; 9 << 20],
            "more than 8388608 bytes",
        ),
    ] {
        let registry =
            Fake::start(move |_| Answer::new(200, body.clone()).with("content-type", kind));
        let (_fixture, result) = pull_fake(&registry).await;
        let error = result.unwrap_err();
        assert!(chain(&error).contains(expected), "{}", chain(&error));
    }
}

#[tokio::test]
async fn a_pinned_manifest_is_that_manifest() {
    let (fake, served) = serve(|_, answer, _| answer);
    let wrong = Digest::of(b"another");
    let name = format!("{}/app@{wrong}", fake.host);
    let error = pull(&Fixture::new(), &name, PullOptions::default())
        .await
        .unwrap_err();
    assert!(
        matches!(error.source, PullFault::Digest { .. }),
        "{}",
        chain(&error)
    );
    let name = format!("{}/app@{}", fake.host, Digest::of(&served.manifest));
    pull(&Fixture::new(), &name, PullOptions::default())
        .await
        .unwrap();
}

#[tokio::test]
async fn two_pulls_at_once_fetch_a_blob_once() {
    let (fake, served) = serve(|_, answer, _| answer);
    let fixture = Fixture::new();
    let name = format!("{}/app", fake.host);
    let (one, two) = tokio::join!(
        pull(&fixture, &name, PullOptions::default()),
        pull(&fixture, &name, PullOptions::default())
    );
    assert_eq!(one.unwrap(), two.unwrap());
    assert_eq!(ranges(&fake, &served), [0]);
}

#[tokio::test]
async fn for_a_name_that_is_refused_no_registry_is_asked() {
    let fixture = Fixture::new();
    sample(&fixture, "127.0.0.1:1/app:1");
    let refuses = |wanted, _: &havre_image::ImageRef, giver: Option<&str>| {
        assert_eq!((wanted, giver), (havre_image::NameUse::Give, None));
        Err(havre_image::NameRefused {
            reason: "not yours".to_owned(),
            hint: Some("another".to_owned()),
        })
    };
    let options = PullOptions {
        names: havre_image::NameRights::new(None, refuses),
        ..PullOptions::default()
    };
    let error = pull(&fixture, "127.0.0.1:1/app:1", options)
        .await
        .unwrap_err();
    assert!(error.refusal().is_some(), "{error:?}");
    assert_eq!(error.hint().as_deref(), Some("another"));
}
