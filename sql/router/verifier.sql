SELECT coalesce(rolpassword, ''), rolcanlogin, expired, rolconnlimit, settings
FROM multicoord.role_verifier($1::text, $2::text)
