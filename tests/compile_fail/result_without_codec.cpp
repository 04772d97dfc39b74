// expect: this type can't be a stored result
// SER-07: a result that a store of bytes can't keep is refused, never stored as nothing.
#include <idem/any_store.hpp>
#include <idem/idempotent.hpp>
#include <idem/memory_store.hpp>

class Receipt {
 public:
  explicit Receipt(int id) : id_(id) {}
  int id() const { return id_; }

 private:
#ifdef IDEM_CORRECTED
  friend struct idem::codec<Receipt>;
#endif
  int id_;
};

#ifdef IDEM_CORRECTED
template <>
struct idem::codec<Receipt> {
  static constexpr std::string_view shape = "receipt";
  static void encode(Writer& writer, const Receipt& receipt) { writer.write(receipt.id_); }
  static Receipt decode(Reader& reader) { return Receipt{reader.read<int>()}; }
};
#endif

int main() {
  // What is behind it may keep bytes.
  idem::AnyStore store = idem::MemoryStore{};
  auto charge_once = idem::idempotent<"charge">([](int id) { return Receipt(id); }, store);
  return charge_once(100).id() - 100;
}
