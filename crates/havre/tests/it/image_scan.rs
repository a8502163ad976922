//! Secrets in images that were built here.

use serde_json::Value;

use crate::machine::on_machine;

const DOCKERFILE: &str = r#"FROM base:1
COPY index.html /www/
ENV SHOP_API_TOKEN=Zx81kQpW03nLt7vBc5yR
COPY app.env /app.env
RUN rm /app.env && printf '\000\001password=Hq72mXzP49kWb3vTn6sR' > /binary
CMD ["httpd", "-f", "-p", "8080", "-h", "/www"]
"#;

#[test]
fn what_a_later_layer_deletes_is_found_and_no_value_is_told() {
    on_machine(|machine| {
        machine.web_up("");
        machine.write("Dockerfile", DOCKERFILE);
        machine.write("app.env", "DB_PASSWORD=Kp93vNcX51rTz8wQb2mL\n");
        machine.ok(&["up"]);
        let ran = machine.run(&["secret", "scan", "--image", "shop-web", "--json"]);
        assert_eq!(ran.code, 3, "{ran:?}");
        let found: Value = serde_json::from_str(&ran.out).unwrap();
        let found = found.as_array().unwrap();
        let one = |file: &str| {
            let mut all = found.iter().filter(|one| one["file"] == file);
            let first = all.next().unwrap_or_else(|| panic!("{file}: {found:?}"));
            assert!(all.next().is_none(), "{found:?}");
            first.clone()
        };
        let deleted = one("app.env");
        assert_eq!(deleted["name"], "DB_PASSWORD");
        assert_eq!(
            (&deleted["line"], &deleted["layer"]),
            (&1.into(), &3.into())
        );
        assert!(deleted["step"].as_str().unwrap().contains("app.env"));
        let variable = one("ENV");
        assert_eq!(variable["name"], "SHOP_API_TOKEN");
        assert_eq!(variable["fix"], "havre secret set shop_api_token");
        assert!(!found.iter().any(|one| one["file"] == "binary"));
        for value in ["Kp93vNcX51rTz8wQb2mL", "Zx81kQpW03nLt7vBc5yR"] {
            assert!(!ran.out.contains(value) && !ran.err.contains(value));
        }
        let unknown = machine.run(&["secret", "scan", "--image", "no-such-image"]);
        assert!(
            unknown.err.contains("no image `no-such-image`"),
            "{unknown:?}"
        );
    });
}
