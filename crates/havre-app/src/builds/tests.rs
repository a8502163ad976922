//! Real builds of real projects, of nothing that has to be run, by people who may not do everything.

use havre_api::{Grant, Role};
use havre_engine::{Engine, EngineConfig};
use havre_image::ImageConfig;
use havre_model::EnvironmentName;
use havre_net::{Net, NetConfig};

use super::*;
use crate::fake::{Stage, principal};
use crate::root::Root;

struct World {
    stage: Stage,
    builder: LocalBuilder,
}

impl World {
    /// With the image `busybox:1`, which was imported.
    fn new() -> Self {
        let stage = Stage::new();
        let platform = Arc::clone(&stage.daemon.platform);
        let root = Root::new(Some(stage.folder().to_owned()));
        let config = EngineConfig {
            run_dir: root.run_dir().to_owned(),
            exe: std::env::current_exe().unwrap(),
            exe_args: Vec::new(),
            instance: root.instance(),
        };
        let (run, kept) = (root.run_dir().join("net"), root.state_dir().join("net"));
        let host = Host {
            engine: Engine::new(config).unwrap(),
            net: Arc::new(Net::new(NetConfig::new(run, kept, root.instance())).unwrap()),
            platform,
        };
        let builder = LocalBuilder::new(Arc::new(host));
        let world = Self { stage, builder };
        let name = "busybox:1".parse().unwrap();
        let config = ImageConfig::for_this_machine();
        world.images().commit_image(config, &[], &name).unwrap();
        world
    }

    fn images(&self) -> &Images {
        &self.stage.daemon.platform.images
    }

    fn named(&self, name: &str) -> Option<String> {
        let image = self.images().resolve(&name.parse().unwrap()).unwrap();
        image.map(|image| image.manifest_digest.to_string())
    }

    /// The image of the first service.
    async fn up(&self, by: &Principal, project: &Project) -> Result<String, ApiError> {
        self.up_telling(by, project).await.map(|(image, _)| image)
    }

    /// With what it warns of.
    async fn up_telling(
        &self,
        by: &Principal,
        project: &Project,
    ) -> Result<(String, Vec<String>), ApiError> {
        let (events, mut source) = EventSink::new(CancellationToken::new());
        let options = UpOptions::default();
        let mut images = self.builder.images(by, project, &options, &events).await?;
        let mut project = project.clone();
        let fetch = Some((&options, &events));
        let hooks = self.builder.hook_images(by, &mut project, &images, fetch);
        hooks.await?;
        drop(events);
        let mut warnings = Vec::new();
        while let Some(event) = source.next().await {
            if let Event::Warning { message, .. } = event {
                warnings.push(message);
            }
        }
        Ok((images.pop_first().unwrap().1, warnings))
    }

    /// Whose builds have a folder that stays.
    fn project(&self, name: &str, services: &str) -> Project {
        let text = format!("name: {name}\nservices: {services}\n");
        let mut project = self.stage.project(&text);
        project.directory = self.stage.folder().join("project");
        std::fs::create_dir_all(&project.directory).unwrap();
        for build in project.services.values_mut().flat_map(|one| &mut one.build) {
            build.context = project.directory.clone();
        }
        project
    }

    #[track_caller]
    fn is_refused<T: std::fmt::Debug>(&self, what: &str, done: Result<T, ApiError>, why: &str) {
        let error = done.expect_err(what);
        assert_eq!(error.code, ErrorCode::Forbidden, "{what}: {error:?}");
        assert!(error.message.contains(why), "{what}: {error:?}");
        let hint = error.hint.unwrap_or_default();
        assert!(hint.ends_with("is deployer of shop/*"), "{what}: {hint}");
        assert!(!hint.contains("bank/"), "{what}: {hint}");
    }
}

fn deployer(place: &str) -> Principal {
    let grant = Grant {
        role: Role::Deployer,
        environments: vec![place.parse().unwrap()],
    };
    principal("ci", grant)
}

fn built(image: &str, dockerfile: &str) -> String {
    format!("{{web: {{{image}build: {{context: ., dockerfile_inline: \"{dockerfile}\"}}}}}}")
}

const BUILT: &str = "built for another environment";

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_for_those_whose_environment_built_it() {
    let world = World::new();
    let bank = deployer("bank/*");
    let api = world.project(
        "bank",
        &built("image: 'bank-api', ", "FROM busybox:1\\nENV A=1"),
    );
    let theirs = world.up(&bank, &api).await.expect("its own");
    let by = deployer("shop/*");
    for (what, services) in [
        ("image", "{web: {image: bank-api}}".to_owned()),
        (
            "its digest's",
            "{web: {image: 'docker.io/library/bank-api:latest'}}".to_owned(),
        ),
        ("FROM", built("", "FROM bank-api")),
        (
            "COPY",
            built("", "FROM busybox:1\\nCOPY --from=bank-api /x /x"),
        ),
        (
            "RUN",
            built(
                "",
                "FROM busybox:1\\nRUN --mount=from=bank-api,target=/x true",
            ),
        ),
        (
            "additional_contexts",
            "{web: {build: {context: ., additional_contexts: {it: docker-image://bank-api}, \
             dockerfile_inline: \"FROM it\"}}}"
                .to_owned(),
        ),
        (
            "a step before the start",
            "{web: {image: 'busybox:1', pre_start: [{image: bank-api, command: [true]}]}}"
                .to_owned(),
        ),
    ] {
        let mut project = world.project("shop", &services);
        world.is_refused(what, world.up(&by, &project).await, BUILT);
        for service in project.services.values_mut() {
            service.pull_policy = PullPolicy::Always;
            service.pre_start.clear();
        }
        if what != "a step before the start" {
            world.is_refused(what, world.up(&by, &project).await, BUILT);
            let planned = world.builder.dry_run(&by, &project).await;
            world.is_refused(what, planned, BUILT);
        }
    }
    // An admin of the machine has it, and hears whose it is.
    let admin = principal("root", Grant::everywhere(Role::Admin));
    for (project, expected) in [("shop", 1), ("bank", 0)] {
        for services in ["{web: {image: bank-api}}", &built("", "FROM bank-api")] {
            let project = world.project(project, services);
            let (image, warnings) = world.up_telling(&admin, &project).await.expect("all");
            assert!(services.contains("FROM") || image == theirs);
            assert_eq!(warnings.len(), expected, "{warnings:?}");
            let whose =
                |one: &String| one.contains("bank-api:latest is what bank/production built");
            assert!(warnings.iter().all(whose), "{warnings:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_takes_no_name_away() {
    let world = World::new();
    let bank = deployer("bank/*");
    let api = world.project(
        "bank",
        &built("image: 'bank-api', ", "FROM busybox:1\\nENV A=1"),
    );
    let theirs = world.up(&bank, &api).await.expect("its own");
    let imported = world.named("busybox:1");
    let by = deployer("shop/*");
    for (name, why) in [
        ("bank-api", BUILT),
        ("busybox:1", "imported on this machine"),
    ] {
        let image = format!("image: '{name}', ");
        let tags =
            "{web: {build: {context: ., tags: ['NAME'], dockerfile_inline: \"FROM busybox:1\"}}}";
        for services in [
            built(&image, "FROM busybox:1\\nENV B=1"),
            tags.replace("NAME", name),
        ] {
            let project = world.project("shop", &services);
            world.is_refused(name, world.up(&by, &project).await, why);
            world.is_refused(name, world.builder.dry_run(&by, &project).await, why);
        }
    }
    assert_eq!(world.named("bank-api").as_ref(), Some(&theirs));
    assert_eq!(world.named("busybox:1"), imported);
    // What a digest names is not for a build to say, whoever asks for it.
    let digest = format!("docker.io/library/postgres@{theirs}");
    for by in [&by, &principal("root", Grant::everywhere(Role::Admin))] {
        let text = built(&format!("image: '{digest}', "), "FROM busybox:1");
        let done = world.up(by, &world.project("shop", &text)).await;
        assert_eq!(done.expect_err("refused").code, ErrorCode::Invalid);
        assert_eq!(world.named(&digest), None);
    }
    // Its own, again and from each of its environments.
    for environment in ["production", "staging"] {
        let text = built(
            "image: 'shop-own', ",
            &format!("FROM busybox:1\\nENV C={environment}"),
        );
        let mut project = world.project("shop", &text);
        project.environment = EnvironmentName::new(environment);
        let made = world.up(&by, &project).await.expect("its own");
        assert_eq!(world.named("shop-own"), Some(made));
    }
    // An admin of the machine has all names, and gives them away by it.
    let admin = principal("root", Grant::everywhere(Role::Admin));
    let text = built("image: 'busybox:1', ", "FROM bank-api\\nENV D=1");
    let made = world.up(&admin, &world.project("shop", &text)).await;
    assert_eq!(world.named("busybox:1"), Some(made.expect("all")));
    let project = world.project("bank", "{web: {image: 'busybox:1'}}");
    let error = world.up(&bank, &project).await.expect_err("the shop's");
    assert!(error.message.contains(BUILT), "{error:?}");
}

/// Environments of one project build under one name as long as nobody says another.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_nobody_chose_is_in_nobodys_way() {
    let world = World::new();
    let mut made = Vec::new();
    for environment in ["production", "pr-7"] {
        let text = built("", &format!("FROM busybox:1\\nENV A={environment}"));
        let mut project = world.project("shop", &text);
        project.environment = EnvironmentName::new(environment);
        let by = deployer(&format!("shop/{environment}"));
        made.push(world.up(&by, &project).await.expect("its own"));
        let planned = world.builder.dry_run(&by, &project).await.expect("a plan");
        let planned = planned.into_values().next();
        let digest = made.last().and_then(|made| made.parse().ok());
        assert_eq!(planned, digest.map(DryRun::Image));
    }
    assert_ne!(made[0], made[1]);
    assert_eq!(world.named("shop-web").as_ref(), Some(&made[0]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_others_take_before_the_build_begins_is_in_nobodys_way() {
    let world = World::new();
    let of = |environment: &str| {
        let mut project = world.project("shop", &built("", "FROM busybox:1\\nENV A=1"));
        project.environment = EnvironmentName::new(environment);
        (deployer(&format!("shop/{environment}")), project)
    };
    let (by, project) = of("pr-8");
    let others_build = world.builder.workshop.turn().await;
    let mut second = Box::pin(world.up(&by, &project));
    let waits = tokio::time::timeout(std::time::Duration::ZERO, &mut second).await;
    assert!(waits.is_err(), "{waits:?}");
    let (first, environment) = (deployer("shop/pr-7"), environment_of(&of("pr-7").1));
    let using = Use {
        by: &first,
        environment: &environment,
        events: None,
    };
    let (name, config) = ("shop-web".parse().unwrap(), ImageConfig::for_this_machine());
    let made = world
        .images()
        .commit_image_as(config, &[], &name, &using.builds())
        .unwrap();
    drop(others_build);
    second.await.expect("its own");
    let theirs = made.manifest_digest.to_string();
    assert_eq!(world.named("shop-web"), Some(theirs));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_tells_what_would_not_be_fetched() {
    let world = World::new();
    let mut project = world.project("shop", "{web: {image: 'busybox:1'}}");
    for service in project.services.values_mut() {
        service.pull_policy = PullPolicy::Always;
    }
    let by = deployer("shop/*");
    let why = "imported on this machine";
    world.is_refused("up", world.up(&by, &project).await, why);
    let planned = world.builder.dry_run(&by, &project).await;
    world.is_refused("plan", planned, why);
}
