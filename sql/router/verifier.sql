-- By way of jsonb, because a cluster may still have the function as an older version made it.
SELECT coalesce(v.rolpassword, ''), v.rolcanlogin, v.expired, v.rolconnlimit, v.settings,
       coalesce((to_jsonb(v) ->> 'rolsuper')::boolean, false),
       coalesce((to_jsonb(v) ->> 'datallowconn')::boolean, true),
       coalesce((to_jsonb(v) ->> 'may_connect')::boolean, true)
FROM multicoord.role_verifier($1::text, $2::text) v
