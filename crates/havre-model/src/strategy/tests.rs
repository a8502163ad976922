//! Which mounts tell how a service is replaced.

use super::*;

/// How the only service of a project is replaced that runs `image` and has this mount.
fn chosen(image: &str, mount: &str, found: &FoundDatabases) -> (Strategy, bool) {
    let service = service(image, mount);
    let name = ServiceName::new("db");
    let (strategy, reason) = strategy(&name, &service, &[], [&service], found);
    (strategy, holds_database(&reason))
}

fn service(image: &str, mount: &str) -> Service {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("compose.yaml");
    let text = format!(
        "services:\n  db:\n    image: {image}\n    volumes: [\"{mount}\"]\n    expose: [\"1\"]\n"
    );
    std::fs::write(&file, text).expect("a file");
    let allowed = "services: {db: {allow: host-paths}}";
    std::fs::write(dir.path().join("havre.yaml"), allowed).expect("a file");
    let options = crate::LoadOptions {
        directory: dir.path().to_owned(),
        ..crate::LoadOptions::default()
    };
    let loaded = crate::load(&options).expect("a project that can be run");
    loaded.project.services[&ServiceName::new("db")].clone()
}

#[test]
fn a_dot_in_a_name_hides_no_database() {
    let none = FoundDatabases::default();
    for (image, mount) in [
        ("postgres:16", "/srv/pgdata-16.2:/var/lib/postgresql/data"),
        ("acme/db", "/srv/mysql5.7:/var/lib/mysql"),
        ("acme/db", "/srv/db.example.com:/data/db"),
        ("acme/db", "/srv/mysql.conf:/var/lib/mysql"),
        ("postgres:16", "/usr/local/pgdata:/pg"),
        ("mongo", "/srv/mongo-7.0:/store/v7.0"),
        ("acme/db", "/etc/mysql-data:/var/lib/mysql"),
    ] {
        let is = chosen(image, mount, &none);
        assert_eq!(is, (Strategy::StopFirst, true), "{image} {mount}");
    }
}

#[test]
fn configuration_is_no_data() {
    let none = FoundDatabases::default();
    for mount in [
        "/srv/my.cnf:/etc/mysql/my.cnf",
        "/srv/init.sql:/docker-entrypoint-initdb.d/init.sql",
        "/srv/init:/docker-entrypoint-initdb.d",
        "/srv/conf.d:/etc/mysql/conf.d",
        "/etc/localtime:/etc/localtime",
        "/var/run/docker.sock:/var/run/docker.sock",
        "/srv/app/php.sock:/php.sock",
        "/srv/data:/var/lib/mysql:ro",
    ] {
        let (strategy, _) = chosen("mariadb", mount, &none);
        assert_eq!(strategy, Strategy::StartFirst, "{mount}");
    }
}

#[test]
fn a_database_that_was_found_counts_whatever_its_folder_is_called() {
    for (number, mount) in ["/etc/pihole:/etc/pihole", "/srv/gravity.json:/store/v1.d"]
        .into_iter()
        .enumerate()
    {
        let service = service("acme/dns", mount);
        let mut found = FoundDatabases::default();
        let (before, _) = chosen("acme/dns", mount, &found);
        assert_eq!(before, Strategy::StartFirst, "{mount}");
        let looked_in: Vec<&Mount> = databases::writable_mounts(&service).collect();
        assert_eq!(looked_in.len(), 1, "{mount}");
        match number {
            0 => found.note(looked_in[0], "gravity.sqlite".into()),
            // What could not be looked through may hold one.
            _ => found.note_unclear(looked_in[0], "too many names".to_owned()),
        }
        assert_eq!(
            chosen("acme/dns", mount, &found),
            (Strategy::StopFirst, true),
            "{mount}"
        );
        assert_eq!(written_mounts(&service, &found).count(), 1, "{mount}");
    }
}
