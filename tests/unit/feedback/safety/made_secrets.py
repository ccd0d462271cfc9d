"""Secrets that were never anyone's, put together here so that no scanner takes them for a leak."""

_BODY = "Q7tR2mX9vB4kL8nP3wZ6sD1fG5hJ0cYaEuIoTrMb"
_PEM = "\n".join(["MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcw" + _BODY[:28]] * 6)

SECRETS = {
    "aws": "AK" + "IA" + "Q7R2MX9VB4KL8NP3",
    "gcp": "AI" + "za" + _BODY[:35],
    "azure": "Account" + "Key=" + (_BODY * 3)[:86] + "==",
    "github": "gh" + "p_" + _BODY[:36],
    "github_fine": "github" + "_pat_" + (_BODY * 3)[:82],
    "gitlab": "gl" + "pat-" + _BODY[:20],
    "slack": "xo" + "xb-" + "2147483647-" + _BODY[:24],
    "stripe": "sk" + "_live_" + _BODY[:24],
    "openai": "sk" + "-proj-" + _BODY,
    "hugging_face": "h" + "f_" + _BODY[:34],
    "npm": "np" + "m_" + _BODY[:36],
    "pypi": "py" + "pi-AgE" + (_BODY * 2)[:60],
    "jwt": "ey" + "JhbGciOiJIUzI1NiJ9." + "ey" + "JzdWIiOiIxMjM0NTY3ODkwIn0." + _BODY,
    "pem": f"-----BEGIN RSA PRIVATE {'KEY'}-----\n{_PEM}\n-----END RSA PRIVATE {'KEY'}-----",
    "pem_without_end": f"-----BEGIN {'PRIVATE'} KEY-----\n{_PEM}",
    "seed": "SU" + "AC4X7QZ2KPL5MNB6VTR3WEDYHJ" + "AC4X7QZ2KPL5MNB6VTR3WEDYHJ" + "GFDS",
}
# What stands in a text, and the part of it that must be gone.
SAID = {
    "Password: hunter2": "hunter2",
    "The wifi password is Blue-Heron77.": "Blue-Heron77",
    "passwd=Tr0ub4dor&3": "Tr0ub4dor&3",
    'password = "correct horse battery staple"': "correct horse battery staple",
    "DB_PASSWORD=s3cr3t!pass": "s3cr3t!pass",
    "mysql -u root --password=Zx81spectrum": "Zx81spectrum",
    "Das Passwort lautet Wolke7grau.": "Wolke7grau",
    "Kennwort: Wolke7grau": "Wolke7grau",
    "mot de passe : Nuage7gris": "Nuage7gris",
    "La contraseña es Nube7gris": "Nube7gris",
    "Пароль: Tucha7sera": "Tucha7sera",
    "密码：Yun7hui88": "Yun7hui88",
    "Your PIN is 4711": "4711",
    "postgres://admin:gr33nFr0g@db.quillmark.example:5432/main": "gr33nFr0g",
    "https://bot:Zx81spectrum@git.quillmark.example/repo.git": "Zx81spectrum",
    f"Authorization: Bearer {_BODY}": _BODY,
    f'api_key: "{_BODY[:32]}"': _BODY[:32],
    f"AWS_SECRET_ACCESS_KEY={_BODY}": _BODY,
    f"client secret is {_BODY[:30]}": _BODY[:30],
}
