use super::*;

fn permissions(publish: (&[&str], &[&str]), subscribe: (&[&str], &[&str])) -> Permissions {
    let own = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
    let subjects = |(allow, deny): (&[&str], &[&str])| Subjects {
        allow: (!allow.is_empty()).then(|| own(allow)),
        deny: own(deny),
    };
    Permissions { publish: subjects(publish), subscribe: subjects(subscribe) }
}

#[test]
fn what_is_allowed_less_what_is_denied() {
    let p = permissions((&["orders.>"], &["orders.secret"]), (&["a.*", "w.* crew"], &["a.x"]));
    assert!(p.may_publish(b"orders.new") && !p.may_publish(b"orders.secret") && !p.may_publish(b"orders"));
    assert!(p.may_subscribe(b"a.b", None) && p.may_subscribe(b"a.*", None) && !p.may_subscribe(b"a.x", None));
    assert!(p.may_subscribe(b"w.1", Some(b"crew")) && !p.may_subscribe(b"w.1", Some(b"others")));
    assert!(!p.may_subscribe(b"w.1", None));
    assert!(p.withholds(b"a.x") && !p.withholds(b"a.b"));
    assert!(Permissions::default().may_publish(b"x") && Permissions::default().may_subscribe(b">", None));
}

#[test]
fn a_file_of_users() {
    let users = parse(
        r#"
anonymous = "ann"
[[user]]
name = "ann"
password = "pw"
publish = { allow = ["orders.>"], deny = ["orders.x"] }
[[user]]
nkey = "UABC"
[[user]]
certificate = "CN=bob,O=Acme"
subscribe = { allow = ["work crew"] }
"#,
    )
    .unwrap();
    assert_eq!(users.iter().map(User::name).collect::<Vec<_>>(), ["ann", "UABC", "CN=bob,O=Acme"]);
    assert!(users[0].anonymous && !users[1].anonymous);
    assert!(users[1].permissions.is_none());
    assert!(users[2].permissions.as_ref().unwrap().may_publish(b"anything"));
}

#[test]
fn a_wrong_file_is_named_with_its_place() {
    for (text, place, words) in [
        ("[[user]]\nname = \"a\"\npasword = \"b\"\n", Some((3, 1)), "unknown field `pasword`"),
        ("[[user]]\nname = 3\n", Some((2, 8)), "invalid type: integer"),
        ("[[user]]\nname = \"a\"\n", None, "user `a` needs a name and a password"),
        ("", None, "it holds no user"),
        ("anonymous = \"b\"\n[[user]]\nname = \"a\"\npassword = \"b\"\n", None, "no such user"),
        ("[[user]]\nname=\"a\"\npassword=\"b\"\n[[user]]\nname=\"a\"\npassword=\"c\"\n", None, "there twice"),
        ("[[user]]\nname=\"a\"\npassword=\"b\"\npublish={allow=[\"a q\"]}\n", None, "`a q` in publish.allow of a"),
        ("[[user]]\nname=\"a\"\npassword=\"b\"\nsubscribe={deny=[\"a..b\"]}\n", None, "subscribe.deny of a"),
    ] {
        let (at, reason) = parse(text).unwrap_err();
        assert!(at == place && reason.contains(words), "{text}: {at:?} {reason}");
    }
}

#[test]
fn violations_are_worded_as_nats_server_words_them() {
    assert_eq!(publish_violation(b"a\"\xff"), "-ERR 'Permissions Violation for Publish to \"a\\\"\\xff\"'\r\n");
    let words = "-ERR 'Permissions Violation for Subscription to \"x\" using queue \"q\"'\r\n";
    assert_eq!(subscribe_violation(b"x", Some(b"q")), words);
}
