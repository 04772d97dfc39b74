# Makes idem::openssl, unless it is there already or can't be found; idem_openssl_missing says why.
#
# CMake's own targets of OpenSSL are seen by the folder alone that asked for them, which isn't that of idem's user.
set(idem_openssl_missing "")
if(NOT TARGET idem::openssl)
  find_package(OpenSSL 1.1.1 QUIET)
  if(OPENSSL_FOUND)
    add_library(idem::openssl INTERFACE IMPORTED GLOBAL)
    set_target_properties(
      idem::openssl PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${OPENSSL_INCLUDE_DIR}"
                               INTERFACE_LINK_LIBRARIES "${OPENSSL_LIBRARIES}")
  else()
    set(idem_openssl_missing "OpenSSL 1.1.1 or later is not found (Debian: libssl-dev); OPENSSL_ROOT_DIR says where it is")
  endif()
endif()
