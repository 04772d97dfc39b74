# Read by tests/run and benchmarks/run, which install what they need as root on Debian.

# install_packages PACKAGE...: what can be had of them. No service starts with its package (redis-server brings one), now
# or with the machine; one that runs already has its package, so that it isn't installed here.
install_packages() {
  local package policy=/usr/sbin/policy-rc.d
  if [ -e "$policy" ]; then
    policy=
  else
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    # shellcheck disable=SC2064
    trap "rm -f $policy" EXIT
  fi
  export DEBIAN_FRONTEND=noninteractive
  # One by one if the whole fails, so that a package that is not to be had takes no other with it.
  apt-get -qq install -y --no-install-recommends "$@" >/dev/null || for package in "$@"; do
    apt-get -qq install -y --no-install-recommends "$package" >/dev/null || echo "cannot install $package"
  done
  if [ -n "$policy" ]; then
    rm -f "$policy"
    trap - EXIT
  fi
  for package in "$@"; do
    if [ "$package" = redis-server ]; then update-rc.d redis-server disable >/dev/null 2>&1 || true; fi
  done
}
