//! What a project from elsewhere may be.

use havre_api::{Grant, OfferedTree};
use havre_model::Allow;
use havre_sources::Snapshot;

use super::*;
use crate::fake::{Stage, id, principal};

fn by(role: Role) -> Principal {
    principal("bot", Grant::everywhere(role))
}

fn refused(stage: &Stage, role: Role, project: &mut Project) -> ApiError {
    settle(&stage.daemon.platform, &by(role), project).expect_err("refused")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_servers_own_is_for_an_admin() {
    let stage = Stage::new();
    for compose in [
        "services: {web: {image: x, volumes: ['/srv:/data']}}",
        "services: {web: {image: x, volumes: ['/srv:/data:ro']}}",
        "services: {web: {image: x, volumes: ['d:/d']}}\nvolumes: {d: {name: others, external: true}}",
        "services: {web: {image: x, build: {context: /srv, dockerfile_inline: FROM x}}}",
        "services: {web: {image: x, volumes: ['d:/d']}}\nvolumes: {d: {driver_opts: {type: none, o: bind, \
         device: /srv}}}",
        "services: {web: {image: x, network_mode: host}}\n---\nservices: {web: {allow: [host-network]}}",
        "services: {web: {image: x, privileged: true}}\n---\nservices: {web: {allow: [privileged]}}",
    ] {
        let compose = format!("name: shop\n{compose}\n");
        let mut project = stage.project(&compose);
        let error = refused(&stage, Role::Deployer, &mut project);
        assert_eq!(error.code, ErrorCode::Forbidden, "{compose}: {error}");
        let settled = settle(&stage.daemon.platform, &by(Role::Admin), &mut project);
        assert!(settled.is_ok(), "{compose}: {settled:?}");
    }
    // Whatever its own files allow it, and whatever it leaves out of them.
    let mut project = stage.project("name: shop\nservices: {web: {image: x}}\n");
    assert!(settle(&stage.daemon.platform, &by(Role::Deployer), &mut project).is_ok());
    assert!(project.sent);
    let changes: [fn(&mut havre_model::Service); 8] = [
        |service| service.privileged = true,
        |service| service.shares.pid = true,
        |service| service.seccomp_unconfined = true,
        |service| service.cap_add.push("SYS_ADMIN".to_owned()),
        |service| service.cap_add.push("SYS_BOOT".to_owned()),
        // The machine's clock, and its kernel's log.
        |service| service.cap_add.push("SYS_TIME".to_owned()),
        |service| service.cap_add.push("SYSLOG".to_owned()),
        |service| service.allow.extend([Allow::HostPaths]),
    ];
    for change in changes {
        let mut project = project.clone();
        project.services.values_mut().for_each(change);
        let error = refused(&stage, Role::Deployer, &mut project.clone());
        assert_eq!(error.code, ErrorCode::Forbidden, "{error}");
        // An admin of the environment is none of the machine.
        let grant = Grant {
            role: Role::Admin,
            environments: vec!["shop/production".parse().unwrap()],
        };
        let admin = principal("bot", grant);
        let error = settle(&stage.daemon.platform, &admin, &mut project).expect_err("refused");
        assert_eq!(error.code, ErrorCode::Forbidden, "{error}");
    }
    let mut confined = project.clone();
    let web = confined.services.values_mut().next().unwrap();
    web.cap_add
        .extend(["NET_ADMIN".to_owned(), "CHOWN".to_owned()]);
    assert!(settle(&stage.daemon.platform, &by(Role::Deployer), &mut confined).is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_sent_takes_the_place_of_its_paths_and_leads_nowhere_else() {
    let stage = Stage::new();
    let platform = &stage.daemon.platform;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("Dockerfile"), "").unwrap();
    std::os::unix::fs::symlink("/etc", folder.path().join("link")).unwrap();
    let snapshot = Snapshot::of_folder(folder.path()).unwrap();
    let tree = snapshot.tree.digest();
    let request = |environment, id, tree| SourceOffer {
        environment,
        trees: vec![OfferedTree { id, tree }],
    };
    let lack = offer(
        platform,
        request(id("shop"), tree, Some(snapshot.tree.clone())),
    );
    assert_eq!(lack.unwrap(), SourceLack::default());
    let project = |path: &str| {
        let compose = "name: shop\nservices: {web: {image: x, volumes: ['/x:/x:ro']}}\n";
        let mut project = stage.project(compose);
        for service in project.services.values_mut() {
            for mount in &mut service.mounts {
                if let Mount::Bind { source, .. } = mount {
                    *source = path.into();
                }
            }
        }
        project
    };
    let sent = |below: &str| project(&format!("{SOURCE_ROOT}/{tree}{below}"));
    for below in ["/link", "/link/passwd", "/../x", "/none"] {
        let error = refused(&stage, Role::Deployer, &mut sent(below));
        assert_eq!(error.code, ErrorCode::NotFound, "{below}: {error}");
    }
    // Another environment's, which it knows the name of.
    let mut other = sent("");
    other.name = havre_model::ProjectName::new("other");
    assert_eq!(
        refused(&stage, Role::Admin, &mut other).code,
        ErrorCode::NotFound
    );
    let mut writable = sent("");
    for service in writable.services.values_mut() {
        for mount in &mut service.mounts {
            if let Mount::Bind { read_only, .. } = mount {
                *read_only = false;
            }
        }
    }
    assert_eq!(
        refused(&stage, Role::Admin, &mut writable).code,
        ErrorCode::Invalid
    );
    let mut good = sent("/Dockerfile");
    let settled = settle(platform, &by(Role::Deployer), &mut good).unwrap();
    assert_eq!(good.directory, platform.sources.of("shop.production"));
    assert!(good.sent);
    drop(settled);
    // A release that names it keeps it, as long as there is one.
    let release = Release::new(
        &good,
        &[(havre_model::ServiceName::new("web"), "sha256:1".into())].into(),
        &Default::default(),
    );
    let trees = trees_of(&release, &platform.sources.of("shop.production"));
    assert_eq!(trees, BTreeSet::from([tree]));
    // So does one that is to come, though nothing of it runs.
    let used =
        |to_come: &[&Release]| trees_in_use(platform, "shop.production", None, to_come).unwrap();
    assert_eq!(used(&[]), BTreeSet::new());
    assert_eq!(used(&[&release]), BTreeSet::from([tree]));
}
